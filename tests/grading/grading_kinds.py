# ruff: noqa: RUF001
r"""Hard pairs by kind, `prediction || gold`, a line each: what the strict grader once got wrong, varied by us."""

from __future__ import annotations

EQUAL_KINDS = {
    "numbers of any size": r"""
2^{400} \cdot 2^{5} || 2^{405}
\frac{3^{300}}{3^{299}} || 3
(2^{150}+1)^2 - 2^{300} - 2^{151} || 1
\frac{1}{1999!} || \frac{2000}{2000!}
e^{-700} || \frac{1}{e^{700}}
\frac{7^{500}-1}{6} || \frac{-1+7^{500}}{6}
1-\left(\frac34\right)^{800} || 1-\frac{3^{800}}{4^{800}}
\binom{300}{150} || \frac{300!}{150!^2}
x \cdot 10^{-60} || \frac{x}{10^{60}}
\sqrt{10^{80}} || 10^{40}
""",
    "mixed numbers and spaced digits": r"""
2 3/4 || 11/4
7\ 1/3 || \frac{22}{3}
3\,\frac{1}{8} || 3.125
12\ 345 || 12345
1 000 000 || 10^6
""",
    "units": r"""
2500\text{ g} || 2.5\text{ kg}
3\text{ km} || 3000\text{ m}
90\text{ s} || 1.5\text{ min}
5\text{ mA} || 0.005\text{ A}
36\text{ km/h} || 10\text{ m/s}
1\text{ L} || 1000\text{ mL}
2\text{ ft} || 24\text{ in}
4\,\mathrm{N\cdot m} || 4\text{ J}
9.8\,\mathrm{m\,s^{-2}} || 9.8\text{ m/s}^2
6\ \mathrm{kPa} || 6000\text{ Pa}
5\text{ feet }6\text{ inches} || 66\text{ inches}
2\text{ hours }15\text{ minutes} || 2.25\text{ hours}
45^\circ 15' || 45.25^\circ
250\text{ cents} || \$2.50
75\text{ cents} || 0.75
12\text{ square feet} || 12\text{ ft}^2
5\times10^{-3}\text{ V} || 5\text{ mV}
\$12/\text{hour} || 12
""",
    "magnitude words": r"""
7\text{ million} || 7000000
2.5\text{ billion dollars} || \$2{,}500{,}000{,}000
4 dozen || 48
3\text{ hundredths} || 0.03
6 thousand || 6,000
""",
    "spacing, fonts and wrappers": r"""
17\, || 17
17\;\, || 17
\frac{2}{3}\ || \frac23
\mathbf{19} || 19
\boldsymbol{\frac{5}{7}} || \frac57
\textbf{23} || 23
\underline{8} || 8
\color{blue}{31} || 31
\textcolor{red}{31} || 31
{\Large 64} || 64
\displaystyle{\frac{9}{4}} || 2.25
\begin{align*}12\end{align*} || 12
77\tag{3} || 77
\emph{5} || 5
\phantom{0}9 || 9
""",
    "names": r"""
x_{1}+y_{2} || x_1+y_2
E_{1}-E_{2} || E_1-E_2
\bar{x}+\bar{y} || \bar y+\bar x
\dot{q}\,t || t\dot q
\varphi+1 || \phi+1
v_{\text{max}} || v_{\mathrm{max}}
2\ell || 2l
\frac{V_{0}}{R_{1}} || \frac{V_0}{R_1}
""",
    "roman letters": r"""
2\mathrm{e} || 2e
1+\mathrm{i} || 1+i
\operatorname{ln} 5 || \ln 5
\mathrm{cos}\,2x || \cos 2x
\operatorname{arctan} x || \arctan x
\mathrm{e}^{-2x} || e^{-2x}
""",
    "Unicode": r"""
¾ || 0.75
2½ || 2.5
y³ || y^3
−7 || -7
5⁄8 || \frac58
x₁ || x_1
3·10⁴ || 30000
√7 || \sqrt{7}
{2, 4} ∪ {6} || \{2,4,6\}
""",
    "typed formulas": r"""
3*x**2 || 3x^2
sqrt(3)/2 || \frac{\sqrt3}{2}
2pi || 2\pi
x^-2 || \frac{1}{x^2}
5*10**6 || 5\times10^6
4 x 10^5 || 4\times 10^5
sin(x)/2 || \frac{\sin x}{2}
2^10 || 1024
""",
    "counting": r"""
{12 \choose 4} || 495
\dbinom{7}{2} || 21
{}_{8}C_{3} || 56
^{6}C_2 || 15
C(9,2) || 36
_5P_2 || 20
7!! || 105
\gcd(12,18) || 6
\operatorname{lcm}(6,10) || 30
\sum_{k=1}^{10} k || 55
\sum_{j=1}^{n} j^2 || \frac{n(n+1)(2n+1)}{6}
\prod_{k=1}^{4} k || 24
""",
    "real roots": r"""
\sqrt[3]{-27} || -3
(-32)^{1/5} || -2
x^{1/3} || \sqrt[3]{x}
\sqrt[3]{y^6} || y^2
""",
    "vectors and matrices": r"""
\begin{pmatrix} 3 \\ 4 \end{pmatrix} || (3,4)
\begin{bmatrix} 3 & 4 \end{bmatrix} || (3,4)
\langle 2,5 \rangle || \begin{pmatrix}2\\5\end{pmatrix}
\frac13 \begin{pmatrix} 3 & 6 \\ 9 & 12 \end{pmatrix} || \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\left(\begin{array}{cc} 1 & 0 \\ 0 & 2 \end{array}\right) || \begin{pmatrix} 1 & 0 \\ 0 & 2 \end{pmatrix}
[[0,1],[1,0]] || \begin{bmatrix} 0 & 1 \\ 1 & 0 \end{bmatrix}
2I || \begin{pmatrix} 2 & 0 \\ 0 & 2 \end{pmatrix}
3\mathbf{i}-\mathbf{j}+2\mathbf{k} || (3,-1,2)
2\hat{i}+5\hat{j} || \begin{pmatrix}2\\5\end{pmatrix}
(1,2)^T || \begin{pmatrix}1\\2\end{pmatrix}
""",
    "tuples and lists": r"""
(2,4,6) || 2,4,6
x=3, y=-1 || (3,-1)
(a,b)=(2,7) || 2, 7
(x,y,z)=(1,2,3) || (1,2,3)
a=2,\ b=5 || (a,b)=(2,5)
x=1 \text{ or } x=4 || 1, 4
x=-2 \text{ or } x=2 || \pm 2
\mp 5 || \pm 5
""",
    "equations": r"""
a+b=23 || 23
100m+n=517 || 517
\frac{p}{q}=\frac{3}{8} || \frac38
xy=12 || 12
f(5)=8 || 8
P(A)=\frac14 || \frac14
[ABCD]=30 || 30
\overline{CD}=4 || 4
\angle ABC = 40^\circ || 40
\text{Volume} = 36\pi || 36\pi
3x-6y=9 || x-2y=3
y-2x=1 || y=2x+1
x^2+y^2-9=0 || x^2+y^2=9
g(u)=u^3-1 || g(x)=x^3-1
S_{10} = 55 || 55
5 = x || 5
""",
    "sets": r"""
x \neq -3 || (-\infty,-3)\cup(-3,\infty)
|x|<5 || (-5,5)
|x-1| \ge 2 || (-\infty,-1]\cup[3,\infty)
]2,7] || (2,7]
[1,4[ || [1,4)
5>x\ge 0 || [0,5)
x>-2 \text{ and } x\le 6 || (-2,6]
x<0 \text{ or } x>1 || (-\infty,0)\cup(1,\infty)
\mathbb{R} || (-\infty,\infty)
\text{all real numbers} || (-\infty,\infty)
\{x : x\ge 4\} || [4,\infty)
\{x \mid 1<x<2\} || (1,2)
3x<12 || x<4
-2x \le 6 || x \ge -3
\mathbb{R}\setminus\{1\} || x \ne 1
(-1,0)\cup[0,3) || (-1,3)
x \in (0,\pi) || (0,\pi)
2a+2b>6 || a+b>3
""",
    "words": r"""
\text{fifteen} || 15
\text{three quarters} || \frac34
\text{two hundred} || 200
\text{does not exist} || \text{DNE}
\text{no solutions} || \emptyset
\text{None} || \emptyset
\text{a parabola} || \text{parabola}
\text{Tom has 14 marbles.} || 14
\text{The final answer is 6} || 6
\text{31 cookies} || 31
2:05\text{ PM} || 14:05
""",
    "remarks and parameters": r"""
4\text{ (since }x>0) || 4
x=7\text{ (rejecting }x=-1) || 7
\approx 2.72 || 2.72
\sqrt{2}\approx 1.414 || \sqrt2
5n-2, n\in\mathbb{Z} || 5n-2
2k+1 \text{ for any integer } k || 2k+1
x\equiv 3 \pmod{7} || x\equiv 10\pmod 7
\textbf{(C)}\ 45 || C
\textbf{(C)}\ 45 || 45
(D)\ \frac12 || \frac12
3 \text{ to } 4 || 3:4
6:8 || 3:4
5:7 || \frac57
""",
    "repeating and thousands": r"""
0.666\ldots || \frac23
0.(6) || \frac23
0.1818\ldots || \frac{2}{11}
2.\overline{45} || \frac{27}{11}
2.500.000 || 2500000
2,75 || 2.75
""",
    "arbitrary constants": r"""
y=Ae^{3x} || y=Ce^{3x}
A\cos t + B\sin t || C_1\sin t + C_2\cos t
\frac{x^3}{3}+K || \frac{x^3}{3}+C
c_1x+c_2 || C_1x+C_2
\ln|x|+c || \ln|x|+C
""",
    "bases": r"""
(2101)_3 || 2101_3
\text{1A}_{16} || 1A_{16}
-12_5 || -12_{5}
""",
    "families, sets and fonts": r"""
T_{\rm max} || T_{\mathrm{max}}
x\neq\pm 1 || (-\infty,-1)\cup(-1,1)\cup(1,\infty)
[2,\infty)\cap(-\infty,5] || [2,5]
(-\infty,3)\cap(1,\infty) || (1,3)
\frac{\pi}{4}+\pi n, n\in\mathbb{Z} || \frac{\pi}{4}+n\pi
\frac{\pi}{4}+\pi n, n\in\mathbb{Z} || \frac{\pi}{4}+k\pi, k\in\mathbb{Z}
\mathopen{]}0,1\mathclose{[} || (0,1)
\mathbb{R}-\{2\} || x\ne2
\mathbb{R}\backslash\{2\} || x\ne2
\text{All real numbers} || \mathbb{R}
\Bbb R || \mathbb{R}
1\text{, }2\text{, and }3 || 1,2,3
\text{Three apples} || 3
\colorbox{yellow}{42} || 42
\pmb{42} || 42
10{:}30\text{ AM} || 10:30\text{ a.m.}
\tanh(200) || \frac{e^{200}-e^{-200}}{e^{200}+e^{-200}}
""",
}

# (text, gold, right): the announcement, not the comparison.
ANNOUNCED = [
    ("**Final Answer**\n\n17", "17", True),
    ("## Final answer\n$$\\frac{3}{5}$$", "0.6", True),
    ("<answer> 29 </answer>", "29", True),
    ('{"steps": ["..."], "answer": "31"}', "31", True),
    ('```json\n{"final_answer": 8.5}\n```', "8.5", True),
    ("The answer is 45 because 9 * 5 = 45.", "45", True),
    ("The answer is 45 (since 9*5=45).", "45", True),
    ("So we multiply.\nA: 45", "45", True),
    ("A: 45\nB: 50\nThe options differ.", "45", False),
    (r"Hence $\boxed 7$.", "7", True),
    (r"Hence $\boxed{3}$ or $\boxed{-3}$.", "-3, 3", True),
    (r"Hence $\boxed{3}$ or $\boxed{-3}$.", "3", False),
    ("Step 4: #### 96", "96", True),
    ("#### Step 5: add 3", "3", False),
    ("The answer is $2$ and $5$.", "2, 5", True),
    ("The answer is $2$ and $5$.", "2", False),
    ("I think 12 and 15 are both possible, so who knows which of these.", "15", False),
    (r"The final answer is $\boxed{\text{12 pens}}$", "12", True),
]
