# ruff: noqa: RUF001
r"""More pairs of the kinds in grading_kinds.py, that only look equal: `prediction || gold`, a line each."""

from __future__ import annotations

UNEQUAL_VARIATIONS = r"""
2^{3^{5}} || 2^{3^{5}}+1
\frac{1}{10^{100}} || \frac{1}{10^{101}}
2^{-300} || 0
\frac{10^{50}}{3} || \frac{10^{50}+1}{3}
1+10^{-50} || 1
\sqrt{2}+10^{-60} || \sqrt2
\pi+10^{-80} || \pi
e^{\pi\sqrt{163}} || 262537412640768744
3^{500}x || 3^{501}x
100! || 99!
\frac{2025!}{2^{2025}} || \frac{2025!}{2^{2024}}
\ln(2^{1000}+1) || 1000\ln 2
\sin(10^{-40}) || 10^{-40}
\lfloor x \rfloor || \lceil x\rceil
\lfloor x\rfloor || x
\lfloor \frac{n^2}{4}\rfloor || \lfloor\frac{n^2}{5}\rfloor
|x-1000| || x-1000
|x+50| || x+50
\max(x,100) || 100
n\bmod 7 || n \bmod 8
1 2/3 || \frac{12}{3}
12 3 || 123
1 234 5 || 12345
1,23 || 123
2 3 4 || 234
2 3 || 2,3
I_x || I_y
I_{xx} || I_{yy}
I^2 || -1
2I || 2i
A^{-1} || A
A^{-1} || A^T
\overline{A} || A
A^c || A
\vec{a} || \vec{b}
\hat{a} || a
\tilde{x} || x
x'' || x'
f''(x) || f'(x)
\frac{dy}{dx} || \frac{y}{x}
\frac{d^2y}{dx^2} || \frac{dy}{dx}
\ddot{x} || \dot{x}
x^* || x
E_1 || E_2
E_{12} || E_1
a_n || a_{n+1}
a_{n+1} || a_n+1
x_1x_2 || x_{12}
f(2x) || 2f(x)
f(x+1) || f(x)+1
f(g(x)) || g(f(x))
\sin^{-1}x || \frac{1}{\sin x}
\ln x^2 || (\ln x)^2
\log_2 3 || \log_3 2
3\text{ mW} || 3\text{ MW}
3\text{ ms} || 3\text{ Ms}
3\text{ mm} || 3\text{ nm}
3\text{ GHz} || 3\text{ MHz}
3\text{ μm} || 3\text{ mm}
3\text{ kg} || 3\text{ g}
3\text{ mL} || 3\text{ L}
3\text{ hours} || 3\text{ days}
3\text{ pounds} || 3\text{ ounces}
3\text{ pints} || 3\text{ quarts}
3\text{ inches} || 3\text{ feet}
3\text{ miles} || 3\text{ kilometers}
3\text{ mol} || 3\text{ mmol}
3\text{ eV} || 3\text{ J}
3\text{ rad} || 3\text{ deg}
3\text{ cal} || 3\text{ J}
3\text{ atm} || 3\text{ Pa}
3\text{ K} || 3^\circ\text{C}
3\text{ T} || 3\text{ G}
3\text{ bits} || 3\text{ bytes}
3\text{ Wh} || 3\text{ W}
3\text{ m/s} || 3\text{ m/s}^2
3\text{ m/s} || 3\text{ km/h}
3\text{ N/m} || 3\text{ N}\cdot\text{m}
3\text{ per hour} || 3\text{ per minute}
3\text{ per day} || 3\text{ per week}
\$3 || 3\text{ cents}
\$3 || €3
£3 || €3
¥3 || \$3
3\text{ pesos} || 3\text{ dollars}
3\text{ euros} || 3\text{ dollars}
3\text{ pennies} || 3\text{ nickels}
3\text{ quintillion} || 3
3\text{ gross} || 3
3\text{ halves} || 3
3\text{ thirds} || 3
3\text{ percent} || 3\text{ percentage points}
3\text{ squared} || 3
3\text{ cubed} || 3
3\text{ million} || 3\text{ thousand}
3\text{k} || 3
3\text{ k} || 3
3\text{ hundred thousand} || 300
3\text{ apples} || 3\text{ oranges}
3\text{ men} || 3\text{ women}
3\text{ cats} || 3\text{ dogs}
3\text{ heads} || 3\text{ tails}
3\text{ red} || 3\text{ blue}
3\text{ left} || 3\text{ right}
3\text{ above} || 3\text{ below}
3\text{ clockwise} || 3\text{ counterclockwise}
3\text{ before} || 3\text{ after}
3\text{ older} || 3\text{ younger}
3\text{ deposit} || 3\text{ withdrawal}
3\text{ BC} || 3\text{ AD}
30^\circ\text{ N} || 30^\circ\text{ S}
30^\circ\text{ north of east} || 30^\circ\text{ east of north}
10\text{ m east} || 10\text{ m west}
10\text{ m/s upward} || 10\text{ m/s downward}
5\text{ or less} || 5
5\text{ or more} || 5\text{ or less}
\text{more than }5 || 5
\text{less than 5} || 5
\text{at most }5 || 5
\text{fewer than 5} || 5
\text{not }5 || 5
\text{none of 5} || 5
\text{nearly 5 or 6} || 5
5+ || 5
5\text{ to }6 || 5
5-6 || 5
x\text{ is odd} || x\text{ is even}
\text{odd} || \text{even}
\text{true} || \text{false}
\text{increasing} || \text{decreasing}
\text{convergent} || \text{divergent}
\text{yes} || \text{no}
\text{rational} || \text{irrational}
\text{AB} || \text{BA}
\text{Monday} || \text{Tuesday}
x\text{ if }y || y\text{ if }x
x \text{ for } x>0 || x\text{ for }x<0
2x\text{ when }n\text{ even} || 2x\text{ when }n\text{ odd}
2\text{ or }3 || 2\text{ and }3
x=1\text{ and }x=2 || x=1
p\text{ and }q || p\text{ or }q
p \land q || p\lor q
A\text{ and }B || A\text{ or }B
x<1,x>3 || 1<x<3
x<1\text{ or }x<3 || x<1\text{ and }x<3
\$5\text{ profit} || \$5\text{ loss}
5\text{ dollars profit} || 5\text{ dollars loss}
-5 || 5\text{ loss}
-101_2 || -101_3
101_2 || 101
101_2+11_2 || 101+11
(101)_2 || (101)_3
\frac{101_2}{11_2} || \frac{101}{11}
-12_3 || -12
2\cdot 11_2 || 22
3!! || 3!
(3!)! || 3!
7!! || 7!
3.0 || 3.04
12.50 || 12.499
0.333333 || 0.333334
2.718281 || 2.718282
123456.7 || 123456.78
99999.5 || 100000
3.141592 || 3.141593
1.5\times10^{-40} || 1.6\times10^{-40}
1.5\times10^{-40} || 1.5\times10^{-41}
6.63\times10^{-34}\cdot 3\times10^8 || 6.63\times10^{-34}\cdot3.1\times10^8
(a,b) || [a,b]
(a,b) || (b,a)
(1,2) || [1,2]
[1,2) || (1,2]
\{1,2\} || (1,2)
(0,1] || [0,1]
]0,1] || [0,1]
(0,1)\cup(2,3) || (0,3)
(1,2),(3,4) || (1,3),(2,4)
x\ge1 || x>1
x\neq 1 || x=1
|x|\le 2 || |x|<2
|x|<2 || |x|>2
x\in\mathbb{Z} || x\in\mathbb{R}
\mathbb{R} || \mathbb{Q}
\mathbb{R}^+ || \mathbb{R}
\mathbb{N} || \mathbb{Z}
k\pi, k\in\mathbb{Z} || 2k\pi, k\in\mathbb{Z}
2k, k\in\mathbb{N} || 2k, k\in\mathbb{Z}
x+y=3 || x-y=3
x+y=3 || x+y=4
x+y=3 || 2x+y=3
y=2x || x=2y
x=3 || x=-3
x=3 || y=3
x^2=9 || 9
2x=8 || 8
x-1=3 || 3
3x+2=11 || 11
1+1=3 || 3
2\cdot3=5 || 5
\frac{6}{2}=4 || 4
f(3)=12 || f(4)=12
f(x)=12 || g(x)=12x
A=5 || B=5
x^2+y^2=4 || 4
y=5x || 5
Ax+B || Cx+D
kx || Cx
kQ || CQ
\frac{k}{r^2} || \frac{C}{r^2}
mc^2 || mk^2
C+1 || K+2
x^2+C || x^3+C
x+C || x
e^{x} || Ce^{x}
Ce^{x} || Ce^{-x}
C_1\sin x || C_1\cos x
1:2:3 || 3:2:1
1:2 || 2:1
2:3 || 2
\begin{pmatrix}1\\2\end{pmatrix} || (2,1)
\begin{pmatrix}1&2\end{pmatrix} || \begin{pmatrix}2&1\end{pmatrix}
2\begin{pmatrix}1\\2\end{pmatrix} || \begin{pmatrix}1\\2\end{pmatrix}
\frac12 I || I
I || 1
-I || I
\begin{pmatrix}1&0\\0&1\end{pmatrix} || 1
\begin{vmatrix}1&2\\3&4\end{vmatrix} || \begin{pmatrix}1&2\\3&4\end{pmatrix}
\langle1,2\rangle || \{1,2\}
\mathbf{i}+\mathbf{j} || \mathbf{i}-\mathbf{j}
x\equiv1\pmod3 || x\equiv1\pmod4
1\pmod 3 || 2\pmod 3
\sqrt[3]{x} || \sqrt{x}
\sqrt{-4} || -2
(-8)^{1/3} || 2
x^{2/3} || x^{3/2}
\sqrt{x^4} || -x^2
\sqrt[4]{x^4} || x
\sum_{i=1}^{n} i || \frac{n(n-1)}{2}
\sum_{i=0}^{n}2^i || 2^{n}-1
\binom{n}{2} || \frac{n(n+1)}{2}
\binom{n}{k} || \binom{k}{n}
n! || n^n
12^\circ30' || 12.30^\circ
5'6'' || 5.6
3:05\text{ PM} || 3:05\text{ AM}
15:05 || 5:05\text{ PM}
3:05 || 305
9\text{ am} || 9\text{ pm}
12\text{ noon} || 12\text{ midnight}
\text{DNE} || \infty
\text{undefined} || 0
\emptyset || \{\emptyset\}
\text{no solution} || \text{all real numbers}
\text{none} || \text{one}
\text{twelve} || 20
\text{twenty one} || 201
\text{one two} || 12
\text{half} || 2
\text{a third} || 3
(A) || (B)
\text{(A) }5 || B
\text{(A) }5 || \text{(B) }5
\text{A and B} || A
\text{A or B} || A
A\text{ or }B || B
5 \approx 6 || 6
\pi\approx3 || 3.2
5\text{ (not 6)} || 6
5\text{ (or 6)} || 5
0.12\ldots || 0.12
0.3\ldots || 0.3
0.(3) || 0.3
0.\overline{12} || 0.1\overline{2}
1.234.567 || 1.234567
1.234 || 1234
3,14 || 314
1,5 || 15
½ || 2
x² || x2
x² || 2x
x_2 || x^2
2³ || 23
1⁄2 || 2
2\pi r || \pi r^2
e^x || x^e
\$5 || 5\%
5\% || 0.5
"""
