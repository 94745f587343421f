# ruff: noqa: RUF001
r"""More pairs of the kinds in grading_kinds.py, that are equal: `prediction || gold`, a line each."""

from __future__ import annotations

EQUAL_VARIATIONS = r"""
\boxed{2\frac{1}{3}} || \frac{7}{3}
\boxed{-2 1/2} || -\frac52
\boxed{\frac{3}{4}\text{ cup}} || 0.75
\boxed{1{,}000{,}000} || 10^6
\boxed{\$1,250.50} || 1250.5
\boxed{1,250.50\text{ dollars}} || \$1250.50
\boxed{20\text{ m/s}} || 72\text{ km/h}
\boxed{1\text{ m}^2} || 10000\text{ cm}^2
\boxed{1\text{ day}} || 24\text{ hours}
\boxed{2\text{ weeks}} || 14\text{ days}
\boxed{0.5\text{ hours}} || 30\text{ minutes}
\boxed{5\text{ kg}} || 5000\text{ g}
\boxed{3\,\mu\text{m}} || 3\times10^{-6}\text{ m}
\boxed{3\ \mu\mathrm{m}} || 3\text{ micrometers}
\boxed{25^\circ\text{C}} || 25\text{ degrees Celsius}
\boxed{100\text{ kPa}} || 100000\text{ Pa}
\boxed{1.5\times 10^{11}\text{ m}} || 1.5e11
\boxed{4\text{ sq. ft}} || 4\text{ ft}^2
\boxed{4 square feet} || 4
\boxed{6.02 \times 10^{23}\,\mathrm{mol}^{-1}} || 6.02\times10^{23}
\boxed{8.31\ \mathrm{J/(mol\cdot K)}} || 8.31\text{ J mol}^{-1}\text{K}^{-1}
\boxed{5\text{ N/m}} || 5\text{ kg/s}^2
\boxed{6{,}000\text{ people}} || 6000
\boxed{9 \text{ books}} || 9 \text{ book}
\boxed{\text{eighteen}} || 18
\boxed{\text{Eleven}} || 11
\boxed{\text{one third}} || \frac13
\boxed{\text{one hundred and twenty}} || 120
\boxed{\text{minus three}} || -3
\boxed{\text{zero}} || 0
\boxed{\text{A circle}} || \text{circle}
\boxed{\text{the hyperbola}} || \text{hyperbola}
\boxed{\text{No real solution}} || \text{no solution}
\boxed{\text{There is no solution}} || \emptyset
\boxed{\text{undefined}} || \text{Undefined}
\boxed{\text{does not exist}} || DNE
\boxed{\text{The limit does not exist}} || \text{DNE}
\boxed{\text{Yes}} || \text{yes}
\boxed{\text{She needs 15 apples.}} || 15
\boxed{\text{It takes 3.5 hours}} || 3.5
\boxed{\text{\$15}} || 15
\boxed{\text{15\%}} || 15
\boxed{\text{12 cm}} || 12
\boxed{\text{12}} || 12
\boxed{\text{x = 3}} || 3
\boxed{\text{x=3 or x=5}} || 3, 5
\boxed{x=3\text{ or }5} || 3,5
\boxed{x=3,5} || 3,5
\boxed{x\in\{1,2\}} || 1,2
\boxed{x \in \{-1, 1\}} || \pm 1
\boxed{\{x\mid x\neq 0\}} || x\ne0
\boxed{x>0} || (0,\infty)
\boxed{(0,+\infty)} || x>0
\boxed{x\geq -1\text{ and }x<4} || [-1,4)
\boxed{-1\le x\text{ and } x<4} || [-1,4)
\boxed{|x+2|\leq 3} || [-5,1]
\boxed{\mathbb{R}\setminus\{0\}} || (-\infty,0)\cup(0,\infty)
\boxed{(-\infty,0)\cup(0,+\infty)} || \{x: x\ne 0\}
\boxed{\text{all reals}} || \mathbb{R}
\boxed{\text{All real numbers except }2} || x\ne2
\boxed{\text{all real numbers except } 0} || (-\infty,0)\cup(0,\infty)
\boxed{[2;5]} || [2,5]
\boxed{x\in[2,5]} || 2\le x\le5
\boxed{4x+6>2x} || x>-3
\boxed{x^2<4} || (-2,2)
\boxed{(\text{-}3, 2)} || (-3,2)
\boxed{(3,\ 4)} || (3,4)
\boxed{\left(\tfrac12;\,3\right)} || (\frac12,3)
\boxed{(x,y)=(3,4)} || (3,4)
\boxed{x=3\text{ and }y=4} || (3,4)
\boxed{y=4, x=3} || (3,4)
\boxed{A=3, B=4} || (3,4)
\boxed{\vec{v}=\begin{pmatrix}1\\2\end{pmatrix}} || \begin{pmatrix}1\\2\end{pmatrix}
\boxed{A=\begin{pmatrix}1&2\\3&4\end{pmatrix}} || \begin{bmatrix}1&2\\3&4\end{bmatrix}
\boxed{\begin{bmatrix}1\\2\\3\end{bmatrix}} || (1,2,3)
\boxed{-\begin{pmatrix}1\\2\end{pmatrix}} || \begin{pmatrix}-1\\-2\end{pmatrix}
\boxed{\begin{pmatrix}2\\4\end{pmatrix}/2} || \begin{pmatrix}1\\2\end{pmatrix}
\boxed{2\hat{\imath}-3\hat{\jmath}} || (2,-3)
\boxed{\begin{matrix}1&2\\3&4\end{matrix}} || \begin{pmatrix}1&2\\3&4\end{pmatrix}
\boxed{\begin{smallmatrix}1\\2\end{smallmatrix}} || \begin{pmatrix}1\\2\end{pmatrix}
\boxed{\frac{\pi}{4}+n\pi,\ n\in\mathbb{Z}} || \frac{\pi}{4}+n\pi
\boxed{x=\frac{\pi}{4}+k\pi\ (k\in\mathbb{Z})} || \frac{\pi}{4}+k\pi
\boxed{x = 2\pi k \text{ where } k \text{ is an integer}} || 2\pi k
\boxed{2n\pi, n \in \mathbb Z} || 2\pi n
\boxed{7 \pmod{12}} || x\equiv 7\pmod{12}
\boxed{x\equiv -1\pmod 5} || x\equiv 4 \pmod 5
\boxed{n\equiv1,3\pmod 8} || n\equiv 3,1\pmod 8
\boxed{\int_0^1 x^2\,dx=\frac13} || \frac13
\boxed{\lim_{x\to0}\frac{\sin x}{x}=1} || 1
\boxed{\sum_{k=1}^{5}k=15} || 15
\boxed{\binom{6}{2}=15} || 15
\boxed{5!=120} || 120
\boxed{|AB|=5} || 5
\boxed{AB=5} || 5
\boxed{AB^2=25} || 25
\boxed{m\angle ABC=40^\circ} || 40^\circ
\boxed{P(X=2)=\frac14} || \frac14
\boxed{\Pr(A)=0.3} || 0.3
\boxed{\mathbb{E}[X]=3} || 3
\boxed{\text{Probability}=\frac12} || \frac12
\boxed{\text{Area}=12\text{ cm}^2} || 12
\boxed{n(A)=5} || 5
\boxed{a^2+b^2=25} || 25
\boxed{p+q+r=9} || 9
\boxed{a\cdot b=12} || 12
\boxed{\frac{m}{n}=\frac{2}{3}} || \frac23
\boxed{k=\pm2} || \pm2
\boxed{y=2x+3} || 2x-y+3=0
\boxed{y-3=2x} || y=2x+3
\boxed{2y=4x+6} || y=2x+3
\boxed{\frac{x^2}{4}+y^2=1} || x^2+4y^2=4
\boxed{f(x)=x^2} || x^2
\boxed{h(t)=t+1} || h(x)=x+1
\boxed{y=x^2} || f(x)=x^2
\boxed{f^{-1}(x)=\frac{x-1}{2}} || \frac{x-1}{2}
\boxed{f'(x)=2x} || 2x
\boxed{\frac{dy}{dx}=2x} || 2x
\boxed{\dot{x}=v} || \dot x = v
\boxed{\overline{x}} || \bar{x}
\boxed{0.1\overline{6}} || 1/6
\boxed{0.1666\ldots} || \frac16
\boxed{0.1(6)} || \frac16
\boxed{0.\dot{3}} || \frac13
\boxed{0.142857142857\ldots} || \frac17
\boxed{1.5 x 10^3} || 1500
\boxed{1.5E3} || 1500
\boxed{2\cdot 10^{-4}} || 0.0002
\boxed{1 000} || 1000
\boxed{10\,000} || 10000
\boxed{1.000.000} || 1000000
\boxed{0,5} || 0.5
\boxed{-1,5} || -1.5
\boxed{⅓} || \frac13
\boxed{⅔} || 2/3
\boxed{x⁴} || x^4
\boxed{10⁻³} || 0.001
\boxed{2×3} || 6
\boxed{√2} || \sqrt2
\boxed{√(2)} || \sqrt2
\boxed{２} || 2
\boxed{＋5} || 5
\boxed{π/2} || \frac{\pi}{2}
\boxed{θ} || \theta
\boxed{∞} || \infty
\boxed{x ≠ 2} || x\ne 2
\boxed{x ≥ 2} || [2,\infty)
\boxed{½x} || \frac{x}{2}
\boxed{\sqrt[3]{-1}} || -1
\boxed{(-8)^{2/3}} || 4
\boxed{\sqrt[3]{8x^3}} || 2x
\boxed{4^{3/2}} || 8
\boxed{x^{1/2}} || \sqrt{x}
\boxed{y=C_1e^{2x}+C_2e^{-2x}} || y=Ae^{2x}+Be^{-2x}
\boxed{y=\frac{x^2}{2}+C} || y=\frac{x^2}{2}+c
\boxed{y=Ke^{-x}} || y=Ce^{-x}
\boxed{-\cos x + C} || -\cos x + K
\boxed{\mathrm{lcm}(8,12)} || 24
\boxed{\gcd(8,12)} || 4
\boxed{lcm(8,12)} || 24
\boxed{_5C_2} || 10
\boxed{5C2} || 10
\boxed{^5P_2} || 20
\boxed{6!!} || 48
\boxed{\sum_{n=1}^{10}n^2} || 385
\boxed{\sum_{i=0}^{n-1}2^i} || 2^n-1
\boxed{\prod_{i=1}^n i} || n!
\boxed{\lfloor 3.7\rfloor} || 3
\boxed{\left\lfloor\frac{n}{2}\right\rfloor} || \lfloor n/2\rfloor
\boxed{\sin(\pi/6)} || \frac12
\boxed{\tan^{-1}(1)} || \frac{\pi}{4}
\boxed{\cos^{-1}0} || \frac\pi2
\boxed{\sec x} || \frac{1}{\cos x}
\boxed{\log_{10}100} || 2
\boxed{\lg 1000} || 3
\boxed{\ln(e^3)} || 3
\boxed{\mathrm{e}^{2}} || e^2
\boxed{2\mathrm{i}} || 2i
\boxed{\mathrm{\pi}} || \pi
\boxed{2\mathrm{x}} || 2x
\boxed{\operatorname{arcsin}\frac12} || \frac{\pi}{6}
\boxed{42\quad} || 42
\boxed{42\\} || 42
\boxed{\ 42} || 42
\boxed{\mathbf{42}} || 42
\boxed{\mathit{42}} || 42
\boxed{\mathsf{42}} || 42
\boxed{\text{\textbf{42}}} || 42
\boxed{\Huge 42} || 42
\boxed{\small{42}} || 42
\boxed{\bf 42} || 42
\boxed{\begin{gathered}42\end{gathered}} || 42
\boxed{\begin{equation}42\end{equation}} || 42
\boxed{\fbox{42}} || 42
\boxed{\boxed{42}} || 42
\boxed{\color{blue}42} || 42
\boxed{\cancel{}42} || 42
\boxed{42 \checkmark} || 42
\boxed{42\text{ }} || 42
\boxed{42.} || 42
\boxed{42!} || 42!
\boxed{"42"} || 42
\boxed{`42`} || 42
\boxed{*42*} || 42
\boxed{= 42} || 42
\boxed{\therefore 42} || 42
\boxed{\Rightarrow 42} || 42
\boxed{\approx 42.5} || 42.5
\boxed{\sim 42} || 42
\boxed{\text{approximately }42} || 42
\boxed{\text{about 42}} || 42
\boxed{42\text{ approximately}} || 42
\boxed{\frac{22}{7}\approx3.14} || \frac{22}{7}
\boxed{\text{(A)}\ 5} || A
\boxed{\text{(A) 5}} || 5
\boxed{A) 5} || A
\boxed{A. 5} || 5
\boxed{\textbf{A}} || A
\boxed{\mathbf{(A)}} || A
\boxed{\mathrm{A}} || A
\boxed{\text{Option A}} || A
\boxed{\text{choice (C)}} || C
\boxed{C: 12} || 12
\boxed{1:2:3} || 2:4:6
\boxed{1 : 2} || \frac{1}{2}
\boxed{3\text{ to }5} || 3:5
\boxed{12:30 p.m.} || 12:30 PM
\boxed{00:30} || 12:30 AM
\boxed{18:00} || 6 PM
\boxed{6:00\text{ PM}} || 6\text{ p.m.}
\boxed{1011_{\text{two}}} || 1011_2
\boxed{(1011)_{2}} || 1011_{two}
\boxed{\text{1F}_{16}} || 1f_{16}
\boxed{30^\circ} || \frac{\pi}{6}
\boxed{30\text{ deg}} || 30^\circ
\boxed{\frac{\pi}{6}\text{ rad}} || 30^\circ
\boxed{0.5\text{ rad}} || 0.5
\boxed{30^{\circ}15'} || 30.25^\circ
\boxed{50\%} || \frac12
\boxed{0.5} || 50\%
\boxed{50\text{ percent}} || 50
\boxed{5 hundred} || 500
\boxed{1.2\text{ million}} || 1{,}200{,}000
\boxed{\$1.2\text{ million}} || \$1,200,000
\boxed{7 tenths} || 0.7
\boxed{half} || \frac12
\boxed{a half} || 0.5
\boxed{three-fourths} || 0.75
\boxed{2\text{ dozen eggs}} || 24
\boxed{25\text{¢}} || \$0.25
\boxed{1\text{ dollar }25\text{ cents}} || 1.25
\boxed{€12.50} || 12.5
\boxed{12.50\text{ euros}} || €12.5
\boxed{₹500} || 500
\boxed{\$ 25} || 25
\boxed{25 \$} || 25
\boxed{USD 25} || 25
\boxed{Rs. 25} || 25
\boxed{x\cdot y} || xy
\boxed{x*y} || xy
\boxed{2(x+1)} || 2x+2
\boxed{[2(x+1)]^2} || 4(x+1)^2
\boxed{\{2(x+1)\}} || 2x+2
\boxed{\frac{x}{y}\cdot z} || \frac{xz}{y}
\boxed{x/y/z} || \frac{x}{yz}
\boxed{-(-3)} || 3
\boxed{--3} || 3
\boxed{3-(-2)} || 5
\boxed{a^{-1}} || \frac1a
\boxed{a^b^c} || a^{bc}
\boxed{2^{3^2}} || 512
\boxed{\sqrt{x}\sqrt{x}} || x
"""
