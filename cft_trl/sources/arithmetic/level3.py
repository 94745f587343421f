"""Level 3: four to six steps with percentages, decimals and units. The notation is told in template.py.

    A jug costs $12.50. Priya orders 8 jugs at 20% off and pays $6 for delivery. How many dollars does she pay?
    8 × 12.5 = 100; 100 × 0.2 = 20; 100 - 20 = 80; 80 + 6 = 86 dollars

A percentage enters a step as its hundredth part, 20% as 0.2.
"""

from functools import partial

from .template import Template

hard = partial(Template, 3)

LEVEL_3 = (
    hard(
        "discounted_order",
        "shopping",
        numbers="count=4..24 price=2.5..40/0.5 off=5|10|15|20|25|30|40 post=4..15",
        words={"item": "jug|towel|blanket|helmet|puzzle|lantern"},
        texts=(
            "A {item} costs {price:$}. {name} orders {count:item} at {off:%} off and pays {post:$} for delivery. "
            "How many dollars does {he} pay?",
            "A shop gives {off:%} off orders of {items}, which cost {price:$} each. {name} buys {count} of them and "
            "adds {post:$} for shipping. What is the total in dollars?",
            "{name} wants {count:item} at {price:$} each. A coupon takes {off:%} off, and delivery costs {post:$}. "
            "How many dollars is the bill?",
        ),
        steps=(
            "full = count * price | dollar | at the full price",
            "saved = full * off% | dollar | off",
            "cost = full - saved | dollar | after the discount",
            "total = cost + post | dollar | with delivery",
        ),
    ),
    hard(
        "simple_interest",
        "money",
        numbers="sum=400..6000/100 rate=2|2.5|3|4|4.5|5|6 years=2..9 taken=50..500/50",
        words={"bank": "bank|credit union|savings club"},
        texts=(
            "{name} puts {sum:$} in a {bank} at {rate:%} simple interest a year. After {years:year} {he} takes out "
            "{taken:$}. How many dollars stay in the account?",
            "A {bank} pays {rate:%} simple interest a year. {name} leaves {sum:$} there for {years:year} and then "
            "spends {taken:$} of it. How many dollars are left?",
            "An account at a {bank} starts with {sum:$} and earns {rate:%} of that sum every year. "
            "After {years:year}, {taken:$} is withdrawn. How many dollars remain?",
        ),
        steps=(
            "yearly = sum * rate% | dollar | of interest a year",
            "interest = yearly * years | dollar | of interest",
            "grown = sum + interest | dollar | with interest",
            "left = grown - taken | dollar | left",
        ),
    ),
    hard(
        "shared_fuel",
        "travel",
        numbers="per=8|10|12|15|16|20 liters=12..60 price=1.2..2.4/0.1 toll=4..30 people=2..5 way=per*liters",
        words={"vehicle": "car|van|camper"},
        texts=(
            "A {vehicle} goes {per:kilometer} on a liter of fuel. A trip of {way:kilometer} is shared by "
            "{people:friend}. Fuel costs {price:$} a liter and tolls are {toll:$}. How many dollars does each pay?",
            "{name} drives {way:kilometer} in a {vehicle} that covers {per:kilometer} per liter. A liter costs "
            "{price:$}, and {toll:$} goes to tolls. Split among {people:person}, how many dollars is that for each?",
            "Fuel is {price:$} a liter. {people:traveler} share the cost of {way:kilometer} in a {vehicle} making "
            "{per:kilometer} on every liter, plus {toll:$} in tolls. What does each pay in dollars?",
        ),
        steps=(
            "fuel = way / per | liter | of fuel",
            "cost = fuel * price | dollar | for fuel",
            "total = cost + toll | dollar | with tolls",
            "share = total / people | dollar | for each person",
        ),
    ),
    hard(
        "two_rides",
        "time",
        numbers="m1=20..120/5 m2=20..150/5 speed=12..30 route=40..160/5",
        words={"path": "canal path|coast road|bike trail|valley loop"},
        texts=(
            "{name} rides a {path} of {route:kilometer} at {speed:kilometer per hour}, for {m1:minute} before lunch "
            "and {m2:minute} after it. How many kilometers are left?",
            "At a steady {speed:kilometer per hour}, {name} cycles {m1:minute}, rests, and cycles {m2:minute} more. "
            "The {path} is {route:kilometer} long. How many kilometers remain?",
            "A {path} measures {route:kilometer}. Riding {m1:minute} and then {m2:minute} at "
            "{speed:kilometer per hour}, how many kilometers short of its end is {name}?",
        ),
        steps=(
            "minutes = m1 + m2 | minute | of riding",
            "hours = minutes / 60 | hour | of riding",
            "done = hours * speed | kilometer | ridden",
            "left = route - done | kilometer | left",
        ),
    ),
    hard(
        "wall_paint",
        "geometry",
        numbers="long=3..12/0.5 wide=2.5..9/0.5 high=2|2.5|3|4 holes=2..15 cover=4|5|8|10 price=6..20",
        words={"room": "bedroom|studio|workshop|library"},
        texts=(
            "A {room} is {long:meter} long, {wide:meter} wide and {high:meter} high. Its walls have "
            "{holes:square meter} of windows and doors. A liter of paint covers {cover:square meter} and costs "
            "{price:$}. How many dollars does painting the walls cost?",
            "{name} paints the four walls of a {room} of {long:meter} by {wide:meter}, {high:meter} high, leaving out "
            "{holes:square meter} of openings. Paint costs {price:$} a liter, enough for {cover:square meter}. "
            "How many dollars of paint does {he} use?",
        ),
        steps=(
            "half = long + wide | meter | for two walls",
            "around = half * 2 | meter | around the {room}",
            "walls = around * high | square meter | of wall",
            "area = walls - holes | square meter | to paint",
            "paint = area / cover | liter | of paint",
            "cost = paint * price | dollar | for paint",
        ),
    ),
    hard(
        "bus_riders",
        "school",
        numbers="pupils=80..800/20 girls=40|45|55|60 ride1=20|25|40|50|75 ride2=20|25|40|50|80",
        words={"way": "by bus|by bike|on foot|by train"},
        texts=(
            "A school has {pupils:pupil}, and {girls:%} of them are girls. Of the girls {ride1:%} come {way}, of the "
            "boys {ride2:%}. How many pupils come {way}?",
            "Of {pupils:pupil}, {girls:%} are girls and the rest are boys. {ride1:%} of the girls and {ride2:%} of the "
            "boys get to school {way}. How many pupils is that?",
            "At {name}'s school of {pupils:pupil}, girls make up {girls:%}. If {ride1:%} of the girls and {ride2:%} of "
            "the boys travel {way}, how many pupils do so?",
        ),
        steps=(
            "girls_all = pupils * girls% | girl | at the school",
            "boys = pupils - girls_all | boy | at the school",
            "girls_ride = girls_all * ride1% | girl | coming {way}",
            "boys_ride = boys * ride2% | boy | coming {way}",
            "all = girls_ride + boys_ride | pupil | coming {way}",
        ),
    ),
    hard(
        "salt_mixture",
        "mixtures",
        numbers="a=2..30/2 p=5|10|15|20|25|30|40 b=2..30/2 q=5|10|15|20|30|45|50|60",
        words={"part": "salt|sugar|acid|alcohol"},
        texts=(
            "{name} mixes {a:liter} of a solution with {p:%} {part} and {b:liter} of one with {q:%} {part}. "
            "What percentage of the mix is {part}?",
            "A tank gets {a:liter} of liquid that is {p:%} {part} and {b:liter} that is {q:%} {part}. "
            "How many percent {part} does it hold?",
            "What is the strength, in percent {part}, of {a:liter} at {p:%} mixed with {b:liter} at {q:%}?",
        ),
        steps=(
            "one = a * p% | liter | of {part} in the first",
            "two = b * q% | liter | of {part} in the second",
            "both = one + two | liter | of {part} in all",
            "all = a + b | liter | of mix",
            "part = both / all | liter | of {part} per liter",
            "strength = part * 100 | percent | of {part}",
        ),
    ),
    hard(
        "scaled_recipe",
        "cooking",
        numbers="serves=4|5|6|8|10 portion=20..150/5 grams=serves*portion guests=9..48 price=2..16/0.5",
        words={"food": "rice|cheese|pasta|spinach|beef|chicken"},
        texts=(
            "A recipe for {serves:person} uses {grams:gram} of {food}. {name} cooks for {guests:guest}. {Food} "
            "costs {price:$} a kilogram. How many dollars does the {food} cost?",
            "For {serves:serving}, a cook takes {grams:gram} of {food}. At {price:$} per kilogram, how many dollars "
            "of {food} go into {guests:serving}?",
            "{name} needs {grams:gram} of {food} to feed {serves:person}. For a party of {guests:person}, how many "
            "dollars does {food} at {price:$} a kilogram cost?",
        ),
        steps=(
            "each = grams / serves | gram | of {food} per person",
            "need = each * guests | gram | of {food}",
            "kilos = need / 1000 | kilogram | of {food}",
            "cost = kilos * price | dollar | for {food}",
        ),
    ),
    hard(
        "overtime_pay",
        "work",
        numbers="hours=20..40 wage=10..32 rate=1.25|1.5 extra=2..12 tax=10|15|20|25",
        words={"job": "mechanic|nurse|cook|plumber|welder"},
        texts=(
            "A {job} earns {wage:$} an hour for {hours:hour} and {rate} times as much for {extra:hour} of overtime. "
            "If {tax:%} goes to tax, how many dollars are left?",
            "{name} works as a {job}: {hours:hour} at {wage:$} an hour, then {extra:hour} of overtime at {rate} times "
            "that wage. After {tax:%} tax, how many dollars does {he} take home?",
        ),
        steps=(
            "usual = hours * wage | dollar | for the usual hours",
            "over = wage * rate | dollar | an hour of overtime",
            "bonus = over * extra | dollar | for overtime",
            "gross = usual + bonus | dollar | before tax",
            "taxed = gross * tax% | dollar | of tax",
            "net = gross - taxed | dollar | after tax",
        ),
    ),
    hard(
        "field_harvest",
        "farm",
        numbers="long=20..80 wide=10..50 yield=0.5..6/0.5 lost=5|10|15|20|25 price=0.5..3/0.25",
        words={"crop": "potato|carrot|onion|beet"},
        texts=(
            "A rectangular field of {long:meter} by {wide:meter} gives {yield:kilogram} of {crops} per square meter. "
            "Of these, {lost:%} spoil, and the rest sell at {price:$} a kilogram. How many dollars do they bring?",
            "{name} grows {crops} on a field of {long:meter} by {wide:meter}. Each square meter yields "
            "{yield:kilogram}, but {lost:%} of the harvest is lost. "
            "At {price:$} per kilogram, how many dollars does {he} earn?",
        ),
        steps=(
            "area = long * wide | square meter | of field",
            "crop = area * yield | kilogram | of {crops}",
            "bad = crop * lost% | kilogram | lost",
            "good = crop - bad | kilogram | to sell",
            "income = good * price | dollar | from the sale",
        ),
    ),
    hard(
        "fish_tank",
        "geometry",
        numbers="long=40..120/10 wide=20..50/10 high=20..60/5 full=50|60|75|80|90 rate=1.5|2|2.5|3|4|5|6",
        words={"tank": "fish tank|glass tank|basin|trough"},
        texts=(
            "A {tank} is {long:centimeter} long, {wide:centimeter} wide and {high:centimeter} high. {name} fills "
            "{full:%} of it with water, at {rate:liter} a minute. How many minutes does it take?",
            "Water runs at {rate:liter} a minute into a {tank} of {long} by {wide} by {high:centimeter}. "
            "After how many minutes is {full:%} of its space filled?",
            "How many minutes does a hose with {rate:liter} a minute need to fill {full:%} of a {tank} that measures "
            "{long} by {wide} by {high:centimeter}?",
        ),
        steps=(
            "base = long * wide | square centimeter | of base",
            "room = base * high | cubic centimeter | of space",
            "liters = room / 1000 | liter | of space",
            "water = liters * full% | liter | of water",
            "time = water / rate | minute | of filling",
        ),
    ),
    hard(
        "target_average",
        "school",
        numbers="a=60..98 b=60..98 c=60..98 target=75..92/0.25",
        words={"subject": "history|biology|French|geography"},
        texts=(
            "{name} has {a}, {b} and {c:point} in three {subject} tests. How many points does {he} need in the fourth "
            "test for an average of {target}?",
            "After three {subject} tests with {a}, {b} and {c:point}, {name} wants an average of {target:point} over "
            "four tests. What must the fourth result be, in points?",
            "To average {target:point} over four {subject} tests, how many points must {name} add to results of {a}, "
            "{b} and {c}?",
        ),
        steps=(
            "two = a + b | point | in two tests",
            "three = two + c | point | in three tests",
            "goal = target * 4 | point | for the average",
            "need = goal - three | point | in the fourth test",
        ),
    ),
    hard(
        "phone_bill",
        "money",
        numbers="free=50..200/10 over=20..180 used=free+over cents=4..25 base=8..30 off=5|10|20|25",
        words={"plan": "phone|mobile|travel phone"},
        texts=(
            "A {plan} plan costs {base:$} a month with {free} free minutes; each further minute costs {cents:cent}. "
            "{name} talks for {used:minute} and gets {off:%} off the bill. How many dollars does {he} save?",
            "{name}'s {plan} plan has {free} free minutes for {base:$} a month, and each minute beyond these "
            "costs {cents:cent}. This month {he} uses {used:minute}. With {off:%} off, "
            "how many dollars does {he} save?",
        ),
        steps=(
            "paid = used - free | minute | to pay for",
            "coins = paid * cents | cent | for those minutes",
            "extra = coins / 100 | dollar | for those minutes",
            "bill = base + extra | dollar | on the bill",
            "saved = bill * off% | dollar | saved",
        ),
    ),
    hard(
        "two_pumps",
        "work rates",
        numbers="size=200..4000/50 full=10|15|20|25|30|40|60 a=5..40/2.5 b=5..40/2.5",
        words={"vessel": "pool|tank|reservoir|cistern"},
        texts=(
            "A {vessel} of {size:liter} is {full:%} full. Two pumps bring {a} and {b:liter} a minute. "
            "After how many minutes is it full?",
            "{name} fills a {vessel} that holds {size:liter} and is already {full:%} full. One hose gives {a:liter} a "
            "minute, another {b}. How many minutes does it take with both?",
            "Two pipes, with {a:liter} and {b:liter} a minute, run into a {vessel} of {size:liter}. It starts {full:%} "
            "full. How many minutes until it is full?",
        ),
        steps=(
            "inside = size * full% | liter | inside",
            "missing = size - inside | liter | missing",
            "rate = a + b | liter | a minute",
            "time = missing / rate | minute | of filling",
        ),
    ),
    hard(
        "running_laps",
        "sports",
        numbers="laps=5..60 lap=200|250|300|400|500 pace=4..7/0.5 pause=2..12",
        words={"place": "track|park|lake|stadium"},
        texts=(
            "{name} runs {laps:lap} of {lap:meter} at the {place}. {He} needs {pace:minute} per kilometer and pauses "
            "for {pause:minute} in all. How many hours does it take?",
            "One lap at the {place} is {lap:meter}. Running {laps:lap} at {pace:minute} a kilometer, with "
            "{pause:minute} of rest, how many hours is {name} there?",
            "A runner does {laps:lap} of the {place}, {lap:meter} each. Every kilometer takes {pace:minute}, and "
            "breaks add {pause:minute}. How many hours pass?",
        ),
        steps=(
            "meters = laps * lap | meter | of running",
            "way = meters / 1000 | kilometer | of running",
            "moving = way * pace | minute | of running",
            "all = moving + pause | minute | in all",
            "hours = all / 60 | hour | in all",
        ),
    ),
    hard(
        "market_profit",
        "shopping",
        numbers="count=10..80 cost=1.5..20/0.5 markup=20|25|30|40|50|60|75 stall=5..60",
        words={"item": "scarf pin|plant|vase|candle|bracelet|basket"},
        texts=(
            "{name} buys {count:item} at {cost:$} each and sells all of them for {markup:%} more. The stall costs "
            "{stall:$}. How many dollars of profit does {he} make?",
            "A trader pays {cost:$} for a {item} and adds {markup:%} to get the selling price. {He} sells {count} of "
            "them and pays {stall:$} for the stall. What is the profit in dollars?",
        ),
        steps=(
            "gain = cost * markup% | dollar | added to the cost",
            "price = cost + gain | dollar | for one {item}",
            "income = count * price | dollar | from the sale",
            "spent = count * cost | dollar | for the {items}",
            "margin = income - spent | dollar | before the stall",
            "profit = margin - stall | dollar | of profit",
        ),
    ),
    hard(
        "coffee_blend",
        "mixtures",
        numbers="a=2..20 p=6..24/0.5 b=2..20 q=6..24/0.5",
        words={"good": "coffee|tea|nuts|muesli"},
        texts=(
            "{name} blends {a:kilogram} of {good} at {p:$} a kilogram with {b:kilogram} at {q:$} a kilogram. "
            "What is a kilogram of the blend worth, in dollars?",
            "A shop mixes two kinds of {good}: {a:kilogram} at {p:$} per kilogram and {b:kilogram} at {q:$} per "
            "kilogram. How many dollars does the mix cost per kilogram?",
        ),
        steps=(
            "one = a * p | dollar | for the first kind",
            "two = b * q | dollar | for the second kind",
            "both = one + two | dollar | for the blend",
            "weight = a + b | kilogram | of blend",
            "worth = both / weight | dollar | per kilogram",
        ),
    ),
    hard(
        "monthly_budget",
        "fractions",
        numbers="pay=1200..4800/60 rent=3|4|5 food=4|5|6|8 off=10|20|25|30|40|50",
        words={"fun": "books|concerts|hobbies|travel"},
        texts=(
            "{name} earns {pay:$} a month. {He} pays 1/{rent} of it for rent and 1/{food} of the rest for food. "
            "Of what is then left, {off:%} goes to {fun}. How many dollars is that?",
            "Out of {pay:$} a month, {name} gives 1/{rent} to rent, then 1/{food} of the remainder to food, and "
            "{off:%} of what is left after that to {fun}. How many dollars go to {fun}?",
        ),
        steps=(
            "home = pay / rent | dollar | for rent",
            "rest = pay - home | dollar | after rent",
            "meals = rest / food | dollar | for food",
            "left = rest - meals | dollar | after food",
            "spent = left * off% | dollar | for {fun}",
        ),
    ),
)
