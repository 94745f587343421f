r"""Hard pairs, `prediction || gold`: values that are left standing, temperatures, dates, matrices; words that change a
value. Those of the second table only look equal."""

from __future__ import annotations

EQUAL_OPERATORS = r"""
\sum_{n=1}^{\infty}\frac{1}{n^2} || \frac{\pi^2}{6}
\sum_{k=0}^\infty \frac{1}{3^k} || \frac32
\sum_{n=0}^\infty \frac{2^n}{n!} || e^2
\sum_{n=1}^\infty \frac{(-1)^{n+1}}{n} || \ln 2
\sum_{n\ge1} 4^{-n} || \frac13
\int_0^1 x^3\,dx || 0.25
3\int_{0}^{\pi} \sin t \,\mathrm{d}t + 1 || 7
\int_1^e \frac{1}{t}dt || 1
\int_{-\infty}^{\infty} e^{-x^2}dx || \sqrt{\pi}
\int_0^2 ax\,dx || 2a
\lim_{x\to0}\frac{\sin 2x}{x} || 2
\lim_{n\to\infty}\left(1+\frac2n\right)^n || e^2
\lim_{x\to 0^{-}}\frac{|x|}{x} || -1
\Gamma(6) || 120
\Gamma\left(\frac12\right) || \sqrt\pi
\Gamma(n+1) || n!
\sum_{k=1}^{\infty} \frac{1}{k(k+2)} || \frac34
\lim_{h\to 0}\frac{(x+h)^2-x^2}{h} || 2x
4 ten-dollar bills || 4
\zeta(4) || \frac{\pi^4}{90}
37^\circ\text{C} || 98.6^\circ\text{F}
0\text{ K} || -273.15^\circ C
-40^\circ F || -40\text{ degrees Celsius}
C_6^2 || 15
C^3_7 || 35
\mathrm{C}_{10}^{4} || 210
A_5^3 || 60
23 \bmod 7 || 2
3^{10}\bmod 5 || 4
23 \equiv 2 \pmod 7 || 2
\pounds 35 || 35
£35 || 35.00
\text{April 9} || 9 April
April 9th, 2021 || 9 April 2021
Friday, April 9 || \text{April 9}
2021-04-09 || April 9, 2021
\begin{pmatrix}x\\y\end{pmatrix}=\begin{pmatrix}5\\6\end{pmatrix} || \begin{pmatrix}5\\6\end{pmatrix}
\begin{pmatrix}1&2\\0&1\end{pmatrix}\begin{pmatrix}1\\3\end{pmatrix} || \begin{pmatrix}7\\3\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix}-t\begin{pmatrix}3\\4\end{pmatrix} || \begin{pmatrix}1-3t\\2-4t\end{pmatrix}
\begin{vmatrix}a&b\\c&d\end{vmatrix} || ad-bc
\det\begin{pmatrix}2&0&0\\0&3&1\\0&0&4\end{pmatrix} || 24
\mathbf{i}-2\mathbf{k} || (1,0,-2)
\mathbf{i}+2\mathbf{j} || \hat{i}+2\hat{j}
P^{-1} A P || P^{-1}AP
(AB)^{-1} || B^{-1}A^{-1}
\mathbf{A}\times\mathbf{B} || A\times B
\{7\} || 7
3 tens || 30
2\text{ score} || 40
24\text{ zeros} || 24
7\text{ (minimum)} || 7
6\text{ real roots} || 6
3 each || 3
8 total || 8
10\text{ times as many} || 10
10\text{ two-digit numbers} || 10
4\text{ five-cent coins} || 4
4\text{ double rooms} || 4
12\text{ apples in total} || 12\text{ apples}
"""

UNEQUAL_OPERATORS = r"""
\sum_{n=1}^\infty (-1)^n || -\frac12
\int_0^1 x^2 dx || \frac13+10^{-40}
\int_0^1 x\,dx || 0.501
\int_{-1}^1 \frac1x dx || 0
\lim_{x\to 0}\frac{|x|}{x} || 1
\Gamma(5) || 120
\Gamma || \gamma
20^\circ\text{C} || 20^\circ\text{F}
3\text{ K} || 3^\circ C
C_6^2 || 36
C_1^2 || 1
23 \bmod 7 || 23
x\equiv1 \pmod 3 || 1
n\equiv 4 (mod 9) || 4
\text{April 9} || \text{April 8}
\text{April 9} || April 9, 2021
April 9, 2020 || April 9, 2021
\begin{pmatrix}1&2\\3&4\end{pmatrix}\begin{pmatrix}0&1\\1&0\end{pmatrix} || \begin{pmatrix}3&4\\1&2\end{pmatrix}
\begin{vmatrix}1&2\\3&4\end{vmatrix} || \begin{pmatrix}1&2\\3&4\end{pmatrix}
\begin{vmatrix}1&2\\3&4\end{vmatrix} || 2
\mathbf{i} || i
A\times B || B\times A
A^{-1}B || BA^{-1}
P^T A P || P A P^T
A×B×C || C×B×A
\{y\} || y
2\text{ score} || 2
3 tens || 3
5 minimum || 5
7 maximum || 7
five sixes || 5
4 twos || 4
6\text{ double} || 6
3 each || 3 total
3\times 4\text{ matrix} || 4\times 3\text{ matrix}
"""
