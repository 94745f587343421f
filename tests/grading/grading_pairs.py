r"""The hard pairs, written by hand: `prediction || gold`, a line each; what is equal, and what only looks so."""

from __future__ import annotations

# Pairs written by hand: prediction || gold.
EQUAL = r"""
1/2 || \frac{1}{2}
0.5 || \frac12
.5 || 0.50
\dfrac{3}{4} || \tfrac34
-\frac{1}{2} || \frac{-1}{2}
\frac{1}{-2} || -0.5
1\frac{4}{5} || 9/5
1 4/5 || \frac{9}{5}
137 \frac{1}{2} || 137.5
6\frac15 || \frac{31}{5}
2/4 || 1/2
1,234 || 1234
32,\!000 || 32000
14{,}916 || 14,916
1,234,567 || 1234567
\$1,000 || 1000
+2 || 2
007 || 7
27.0 || 27
4.5e33 || 4.5 \times 10^{33}
4.5\cdot10^{33} || 45e32
10^{-3} || 0.001
2.50 || \$2.50
18 \text{ dollars} || \$18
25\% || 25
25 || 25\%
0.25 || 25\%
25 percent || 25\%
90^\circ || 90
90° || 90^{\circ}
90 \text{ degrees} || 90^\circ
\frac{\pi}{2} || 90^\circ
12 cm || 12
12 \text{ cm} || 12\text{ centimeters}
15\mbox{ cm}^2 || 15 \text{ square centimeters}
864 \mbox{ inches}^2 || 864 square inches
45 mph || 45\text{ miles per hour}
10 \text{ units} || 10
18 \text{ ways.} || 18
575 students || 575
5 \text{ people} || 5 \text{ students}
2.5 hours || \frac{5}{2} \text{ h}
x = 3 || 3
3 || x=3
k = 1 || 1
f(x) = 2x || 2x
y = 2x + 1 || y = 1 + 2x
x \in [1, 2] || [1,2]
2 + 3 = 5 || 5
(2,3) || \left(2, 3\right)
(x, y) = (2, 3) || (2,3)
(\frac12, -1) || (0.5, -1)
[1, 9] || \left[1,9\right]
(1, 2, 3) || [1, 2, 3]
1, 2, 3 || 3, 2, 1
\{1, 2, 3\} || \{3, 1, 2\}
1, 2 || \{2, 1\}
\{1, 1, 2\} || \{1, 2\}
x=1, x=2 || 2, 1
1 \text{ and } 2 || 1, 2
1 and 2 || 2, 1
1 or 2 || 1, 2
7, -2, \text{ and } -5 || -5, -2, 7
\sqrt{5}, -\sqrt{5} || \pm\sqrt{5}
3 \pm 2\sqrt{2} || 3-2\sqrt{2}, 3+2\sqrt{2}
x = \pm 2 || 2, -2
(1,2),(3,4) || (3,4), (1,2)
100, 200 || 200,100
(-\infty, 2] || (-\infty,2]
x \le 2 || (-\infty, 2]
2 < x \le 5 || (2, 5]
x > -1 || (-1, \infty)
x<-7 or x>3 || (-\infty,-7) \cup (3,\infty)
(-\infty,-7)\cup(-7,3) || (-7,3) \cup (-\infty,-7)
x \geq 2 || x \geqslant 2
2 \leq x || x \geq 2
(-\infty, \infty) || (-\infty, +\infty)
\emptyset || \varnothing
\{\} || \emptyset
x+1 || 1+x
(x+1)^2 || x^2+2x+1
(x-5)(x^2-4x+7) || x^3-9x^2+27x-35
\frac{x+2}{7} || \frac{1}{7}(x+2)
-\frac{1}{2x} || -\frac1{2x}
2(x+y) || 2x+2y
a^2-b^2 || (a-b)(a+b)
\sqrt{8} || 2\sqrt{2}
\sqrt8 || 2\sqrt2
√8 || 2\sqrt{2}
\frac{1}{\sqrt{3}} || \frac{\sqrt{3}}{3}
\sqrt{3+2\sqrt{2}} || 1+\sqrt{2}
2\sqrt{3}+1 || 1+2\sqrt{3}
8^{1/3} || 2
\sqrt[3]{27} || 3
2^{10} || 1024
5! || 120
\binom{5}{2} || 10
\log_2 8 || 3
\ln e^2 || 2
\sin 30^\circ || \frac12
\cos 58^\circ || \sin 32^\circ
2\sin x\cos x || \sin 2x
\pi || π
2\pi r || 2 r \pi
3.14159265 || \pi
0.333333 || \frac13
0.6666667 || 2/3
2.718281828 || e
3+5i || 5i+3
(1+i)^2 || 2i
e^{i\pi} || -1
\frac{2}{1+i} || 1-i
\begin{pmatrix} 1 \\ 2 \end{pmatrix} || \begin{pmatrix}1\\2\end{pmatrix}
\begin{pmatrix} 1/2 & 0 \\ 0 & 1 \end{pmatrix} || \begin{bmatrix} 0.5 & 0 \\ 0 & 1 \end{bmatrix}
1200_7 || 1200_{7}
\text{(A)} || A
(B) || B
(a) || A
\text{Saturday} || saturday
\mbox{Evelyn} || Evelyn
\text{A,C,F} || A, C, F
9\text{ a.m.} || 9 am
4:30 \text{ p.m.} || \text{4:30 PM}
3:1 || 3 : 1
True || true
\text{13} || 13
$\frac{1}{2}$ || 0.5
\boxed{7} || 7
{5} || 5
(5) || 5
\displaystyle\frac{3}{4} || 0.75
5. || 5
\frac{100!}{2^{50}} || 100! \cdot 2^{-50}
27^\circ, 63^\circ || 63, 27
n^2+n || n(n+1)
\lfloor n/2 \rfloor + 1 || 1 + \lfloor \frac{n}{2} \rfloor
e^{-2t} || \frac{1}{e^{2t}}
x_1 + x_2 || x_2 + x_1
p - q || -q + p
111, \! 111, \! 111 || 111111111
0.\overline{3} || 1/3
0.1\overline{6} || \frac16
\left\{ \frac{1}{2}, 3 \right\} || \{3, 0.5\}
\arcsin{\frac{10}{13}} || np.arcsin(10/13)
-\tau\ln(\Delta) || -\tau \ln \Delta
\frac{dx}{dt} = kx - a || \frac{d x}{d t}=k x-a
f(x)=-1, f(x)=x+1 || f(x)=x+1,f(x)=-1
x=1,y=2 || y=2,x=1
5\% || 0.05
xy || yx
(B) the second one || B
Option C || C
\text{D. none of these} || D
\sqrt{1000001} || 1000.0005
\frac{1}{2}, 1, 2 || 2, 0.5, 1
[-3,-2] \cup [0,1] || [0, 1] \cup [-3, -2]
1,000,000 \text{ dollars} || \$1000000
|x| || \left|x\right|
1:3 || 1/3
x=1,y=2 || (1,2)
12 \text{ inches} || 1 \text{ foot}
6,3 || 6.3
"""
UNEQUAL = r"""
0 || 4e-5
0 || 0.006
1e-9 || 1e-10
0 || 1e-30
1.05e-10 || 1e-10
0.3 || \frac13
0.333 || 1/3
3.14 || \pi
3.1416 || \pi
22/7 || \pi
1.41 || \sqrt{2}
20.39 || 20.4
1000000 || 1000001
1000000.5 || 1000000
123456 || 123456.4
100 || 1,00
1234 || 1,235
12 || 1,2
1,2 || 12
1,234 || 1.234
12,345 || 12.345
2 || -2
1/2 || 2
1\frac{1}{2} || \frac{1}{2}
-1\frac{1}{2} || -\frac12
3\frac{1}{2} || \frac{3}{2}
25\% || 0.25\%
25\% || 2500
0.25\% || 25
25 || 0.25
12 cm || 12 m
12 \text{ cm} || 12 \text{ cm}^2
12 \text{ square inches} || 12 \text{ inches}
5 \text{ dollars} || 5 \text{ cents}
3 \text{ hours} || 3 \text{ minutes}
180 \text{ minutes} || 3 \text{ minutes}
9\text{ a.m.} || 9 \text{ p.m.}
4:30 || 4:31
1.5 cm || 15 cm
90^\circ || 90 \text{ cm}
5 cm || 5 \text{ students}
6m || 6
6 || 6m
3s^2 || 3
5x || 5
2 || 2x
x = 3 || y = 3
x^2 = 3 || 3
x + 1 = 3 || 3
3 = x^2 || 3
y = 2x || y = -2x
y = 2x+1 || y = 2x
2 + 3 = 6 || 5
(2,3) || (3,2)
(2,3) || [2,3]
(2,3) || (2,3]
(2,3) || 2,3
(2,3) || \{2,3\}
2,3 || (2,3)
(1,2,3) || (1,3,2)
(1,2) || (1,2,3)
1, 2 || 1, 2, 3
1, 2, 3 || 1, 2
1, 2 || 1
1 || 1, 2
\{1,2\} || \{1,3\}
1,1,2 || 1,2
1,2,2 || 1,1,2
\pm 2 || 2
2 || \pm 2
3 \pm \sqrt2 || 3 + \sqrt2
(1,2),(3,4) || (1,2),(4,3)
[1, 2] || [1, 3]
(-\infty, 2] || (-\infty, 2)
x < 2 || x \le 2
x > 2 || (2, 3)
x < 2 || (2, \infty)
x \ge 2 || y \ge 2
2 < x < 5 || (2, 5]
(-\infty,-7)\cup(3,\infty) || (-\infty,-7)
(1,2) \cup (3,4) || (1,2) \cap (3,4)
\emptyset || 0
\emptyset || \{0\}
\infty || -\infty
x+1 || x-1
x+1 || y+1
(x+1)^2 || x^2+1
\sqrt{x^2} || x
|x| || x
x^2 || x^3
\frac{a}{b} || \frac{b}{a}
a-b || b-a
n/2 || \lfloor n/2 \rfloor
2^n || n^2
M || m
a || A
x_1 || x_2
\sin x || \cos x
\sin^2 x || \sin x^2
\sin 30 || \frac12
\log_2 x || \log_3 x
\sqrt{2} || 2
\sqrt{2} || -\sqrt{2}
\sqrt[3]{2} || \sqrt{2}
2\sqrt3 || 3\sqrt2
\sqrt{1000001} || 1000.0007
3+5i || 3-5i
i || 1
1 || i
e || 2.7
\begin{pmatrix} 1 \\ 2 \end{pmatrix} || \begin{pmatrix} 2 \\ 1 \end{pmatrix}
\begin{pmatrix} 1 & 2 \end{pmatrix} || \begin{pmatrix} 1 \\ 2 \end{pmatrix}
\begin{vmatrix} 1 & 0 \\ 0 & 1 \end{vmatrix} || \begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}
1200_7 || 1200
1200_7 || 1200_8
1200_7 || 441
1200 || 1200_7
\text{(A)} || B
A, B || A
\text{A,C} || \text{A,D}
\text{Saturday} || Sunday
\text{even} || \text{odd}
True || False
\text{yes} || 1
none || 0
no || 0
3:1 || 1:3
3:1 || 3
\text{June 20} || \text{June 2}
\text{June 20} || 20
5 || 5, 6
55 || 5
10! || 10
2^{10} || 210
2^3 || 23
1/0 || 0
\frac{1}{0} || \infty
99 || 99\pi
99\pi || 99
\text{not } 5 || 5
\{ || 5
\frac{1}{ || 1
0.\overline{3} || 0.3
ABC || ACB
\overline{AB} || \overline{CD}
\angle ABC || \angle ABD
\frac{dx}{dt} = kx + a || \frac{d x}{d t}=k x-a
f(x)=x || f(x)=2-x
n = 2k-1 || k = 2n-1
1.4142 || \sqrt2
x=1,y=2 || x=2,y=1
\text{DNE} || 0
5\% || 0.5
1 \text{ or } 2 || 1
(B) the second one || A
Option C || D
A B || A
[0,1] \cup [2,3] || [0,3]
0,1 || [0,1]
"""


def pairs_of(table: str) -> list[tuple[str, str]]:
    return [tuple(side.strip() for side in line.split("||")) for line in table.strip().splitlines()]
