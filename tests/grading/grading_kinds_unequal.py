r"""Hard pairs by kind that only look equal, `prediction || gold`, a line each."""

from __future__ import annotations

UNEQUAL_KINDS = {
    "numbers of any size": r"""
2^{3000} || 2^{3000}+1
7^{200}-1 || 7^{200}
10^{60}+3 || 10^{60}
50!+1 || 50!
\frac{5^{300}-1}{4} || \frac{5^{300}+3}{4}
1-3^{-200} || 1
0 || \frac{1}{500!}
0 || e^{-300}
e^{-900} || e^{-901}
\left(\frac23\right)^{900} || \left(\frac23\right)^{901}
\sqrt{10^{90}+1} || 10^{45}
\frac{y}{10^{50}} || \frac{3y}{10^{50}}
x^2+10^{-70} || x^2
2^{n+300}+1 || 2^{n+300}
(1-t)^{3000} || (1-t)^{3000}+1
\binom{400}{200}+1 || \binom{400}{200}
(6.02\times10^{-40})^2 || (6.03\times10^{-40})^2
""",
    "spaces": r"""
4 1/2 || 41/2
2 5 || 25
7 0 || 70
1\ 3/4 || 13/4
""",
    "and beside or": r"""
a \text{ or } b || a \text{ and } b
x>2, x<5 || (-\infty,5)\cup(2,\infty)
x<0 \text{ and } x>4 || (-\infty,0)\cup(4,\infty)
x<0 \text{ or } x>4 || x<0 \text{ and } x>4
1 \text{ or } 2 || 1 \text{ and } 2
""",
    "names": r"""
I_a || I_b
R I_1 || R I_2
I+1 || i+1
I_2^2R || I_1^2R
y' || y
f'(x) || f(x)
B^T || B
g^{-1}(x) || \frac{1}{g(x)}
\bar{z} || z
\dot{x} || x
x_1' || x_1
PQR' || PQR
I(0) || 0
\hat{p} || p
z^* || z
M^{\dagger} || M
""",
    "units and words": r"""
4\text{ million} || 4\text{ billion}
4\text{ thousand} || 4
6 hundred || 6
2\text{ dozen} || 2
5\text{ mV} || 5\text{ V}
5\text{ kW} || 5\text{ MW}
5\text{ km} || 5\text{ m}
2\text{ keV} || 2\text{ eV}
2\text{ Mg} || 2\text{ mg}
2\text{ N} || 2\text{ J}
€30 || \$30
£15 || €15
3\text{ quarters} || 3\text{ dimes}
3\text{ teaspoons} || 3\text{ tablespoons}
8\text{ profit} || 8\text{ loss}
8\text{ east} || 8\text{ west}
8\text{ boys} || 8\text{ girls}
8\text{ more} || 8\text{ fewer}
8\text{ or fewer} || 8
\text{at least } 8 || 8
15\%\text{ profit} || 15\%\text{ loss}
n\text{ is prime} || n\text{ is composite}
n^2\text{ if }n\text{ is odd} || n^2\text{ if }n\text{ is even}
2\text{ apples, }3\text{ pears} || 3\text{ apples, }2\text{ pears}
30\text{ min} || 30\text{ h}
1000\text{ m} || 10\text{ km}
7\text{ cm}^2 || 7\text{ cm}^3
x\text{ precedes }y || y\text{ precedes }x
6\text{ up} || 6\text{ down}
20^\circ\text{C} || 20^\circ\text{F}
""",
    "bases": r"""
-34_5 || -34
-34_5 || -34_6
110_2+1 || 110+1
12_3 || 5
""",
    "steps": r"""
\lfloor\frac{n}{6}\rfloor || \lfloor\frac{n}{7}\rfloor
x+\lfloor x/200\rfloor || x+\lfloor x/300\rfloor
\lceil \sqrt{n} \rceil || \lfloor \sqrt{n} \rfloor
n \bmod 50 || n \bmod 60
""",
    "rounded decimals": r"""
5000.0 || 5000.04
765432.1 || 765432.12
3.1415926 || 3.14159
0.12345 || \frac{10}{81}
1.41421 || 1.41422
""",
    "equations": r"""
2+2=5 || 5
x^2+y^2=25 || 25
x^2=16 || 16
2x+1=9 || 9
2x-3y+4=0 || 0
x+y=3 || 2x+2y=5
x+y>3 || x+y<3
y=x || y=-x
f(x)=x+1 || f(x)=x-1
a+b=6 || 7
(a,b)=(3,1) || 1, 3
x=3, y=4 || (4,3)
""",
    "sets": r"""
|x|<3 || (-3,3]
|x|>3 || (-3,3)
x\ne 2 || (-\infty,2)\cup(3,\infty)
]0,1[ || [0,1]
[0,1[ || [0,1]
-2x<6 || x<-3
\{x : x>2\} || [2,\infty)
\mathbb{R} || (0,\infty)
(0,1)\cup(1,2) || (0,2)
""",
    "structures": r"""
(1,2) || \{1,2\}
(3,2,1) || 1,2,3
\langle 1,2 \rangle || \begin{pmatrix}2\\1\end{pmatrix}
\frac12\begin{pmatrix}2&4\\6&8\end{pmatrix} || \begin{pmatrix}1&2\\3&5\end{pmatrix}
2I || \begin{pmatrix} 2 & 1 \\ 0 & 2 \end{pmatrix}
\mathbf{i}+2\mathbf{j} || (2,1)
[[1,2],[3,4]] || \begin{pmatrix}1&3\\2&4\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix}^T || \begin{pmatrix}1&2\\3&4\end{pmatrix}
3:4 || 4:3
3:4 || \frac43
\frac12 || 1:2
x\equiv 2\pmod 5 || x\equiv 3\pmod 5
x\equiv 2\pmod 5 || x\equiv 2\pmod 7
3n+1, n\in\mathbb{N} || 3n+1
3!! || (3!)!
""",
    "words": r"""
\text{DNE} || \text{no solution}
\text{none} || 0
\text{not 6} || 6
\text{fourteen} || 40
\text{between 3 and 5} || 5
\text{an ellipse} || \text{a hyperbola}
\text{Room 12} || 12
\text{May 4} || 4
\text{(B) } 12 || 13
\textbf{(B)}\ 12 || C
2:05\text{ AM} || 14:05
\text{increasing} || \text{decreasing}
\text{infinitely many} || \text{no solution}
""",
    "arbitrary constants": r"""
\frac{Q}{A} || \frac{Q}{C}
Ae^{2x} || Ce^{3x}
A+B || A+C
BV || CV
x+2C || x+3k
C_1x+C_2 || C_1x
""",
    "remarks": r"""
3\approx 5 || 5
4\text{ (since }x>0) || 5
2\pi\approx 6.28 || 6.3
0.33\ldots || 0.33
""",
    "numbers in words beside an answer": r"""
3\text{ out of }4 || 3
3\text{ out of }4 || 4
3\text{ sqrt}(2) || 3
10\text{ times }3 || 10
4\text{ multiplied by }2 || 4
4\text{ divided by }2 || 4
4\text{ plus }3 || 4
4\text{ minus }3 || 4
4\text{ to the power of }2 || 4
4\text{ choose }2 || 4
4\text{ and a half} || 4
4\text{ and a quarter} || 4
4\text{ point }5 || 4
4\text{ and 5} || 4
4\text{ upwards} || 4
\text{three less} || 3
\text{seven squared} || 7
\text{two dozen} || 2
\text{three thousand people} || 3
""",
    "values near one": r"""
\ln(1+10^{-60}) || 0
e^{10^{-40}} || 1
\tanh(200) || 1
\cos(10^{-30}) || 1
""",
    "marks that are no powers or products": r"""
x^{(2)} || x^2
\nabla f || \nabla\cdot f
\vec{a}\cdot\vec{b} || \vec{a}\times\vec{b}
\{1\} || \{\{1\}\}
""",
    "families": r"""
2\pi n, n\in\mathbb{Z} || \pi k, k\in\mathbb{Z}
2n, n\in\mathbb{Z} || 2n+1, n\in\mathbb{Z}
kn, k\in\mathbb{Z} || k^2, k\in\mathbb{Z}
n+2k, k\in\mathbb{Z} || k+2n, n\in\mathbb{Z}
""",
}
