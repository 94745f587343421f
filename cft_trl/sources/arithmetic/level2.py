"""Level 2: three or four steps on larger whole numbers, no result above 5000. The notation is told in template.py.

A baker makes 12 trays of 15 rolls. Then 18 rolls burn, and the rest are sold at $2 each. How many dollars ...?
12 × 15 = 180 rolls baked; 180 - 18 = 162 rolls to sell; 162 × 2 = 324 dollars from the sale
"""

from functools import partial

from .template import Template

medium = partial(Template, 2)

LEVEL_2 = (
    medium(
        "bakery_day",
        "cooking",
        numbers="trays=6..25 each=8..24 burnt=5..30 price=2..6",
        words={"bread": "roll|bun|bagel|muffin|pretzel"},
        texts=(
            "A baker makes {trays:tray} of {each:bread}. Then {burnt:bread} burn, and the rest are sold at {price:$} "
            "each. How many dollars does that bring?",
            "{name}'s bakery fills {trays:tray} with {each:bread} each. {He} gives {burnt} of the {breads} away and "
            "sells the others for {price:$} apiece. How many dollars does {he} take in?",
            "From {trays:tray} with {each:bread} on each, {burnt:bread} are too dark to sell. "
            "At {price:$} for one {bread}, how many dollars do the others earn?",
        ),
        steps=(
            "baked = trays * each | bread | baked",
            "good = baked - burnt | bread | to sell",
            "income = good * price | dollar | from the sale",
        ),
    ),
    medium(
        "class_trip",
        "school",
        numbers="classes=3..8 pupils=16..30 teachers=4..15 price=4..15",
        words={"place": "museum|zoo|planetarium|castle|aquarium"},
        texts=(
            "{classes:class} of {pupils:pupil} go to the {place} with {teachers:teacher}. A ticket costs {price:$}. "
            "How many dollars do all the tickets cost?",
            "A school takes {classes:class} to the {place}. Each class has {pupils:pupil}, and {teachers:teacher} come "
            "along. At {price:$} a person, how many dollars does the visit cost?",
            "The {place} charges {price:$} a person. {name}'s school sends {classes:class} of {pupils:pupil} and "
            "{teachers:teacher}. What is the bill in dollars?",
        ),
        steps=(
            "children = classes * pupils | pupil | in the classes",
            "people = children + teachers | person | on the trip",
            "bill = people * price | dollar | for the tickets",
        ),
    ),
    medium(
        "two_leg_drive",
        "travel",
        numbers="h1=2..6 v1=40..90/5 h2=2..6 v2=40..90/5 rest=20..150/5 leg1=h1*v1 leg2=h2*v2 driven=leg1+leg2 "
        "route=driven+rest",
        words={"driver": "truck|bus|van|car"},
        texts=(
            "A {driver} goes {h1:hour} at {v1:kilometer per hour} and {h2:hour} at {v2:kilometer per hour}. "
            "The route is {route:kilometer} long. How many kilometers are left?",
            "{name} drives a {driver} along a route of {route:kilometer}: {h1:hour} at {v1:kilometer per hour}, then "
            "{h2:hour} at {v2:kilometer per hour}. How far, in kilometers, does {he} still have to go?",
            "To reach a town {route:kilometer} away, a {driver} travels {h1:hour} at {v1:kilometer per hour} and, "
            "after lunch, {h2:hour} at {v2:kilometer per hour}. How many kilometers remain?",
        ),
        steps=(
            "leg1 = h1 * v1 | kilometer | on the first leg",
            "leg2 = h2 * v2 | kilometer | on the second leg",
            "driven = leg1 + leg2 | kilometer | driven",
            "left = route - driven | kilometer | to go",
        ),
    ),
    medium(
        "fence_cost",
        "geometry",
        numbers="long=15..60 wide=8..40 gate=2..6 price=5..20",
        words={"field": "garden|paddock|playground|orchard|pasture", "unit": "meter|yard"},
        texts=(
            "A rectangular {field} is {long:unit} by {wide:unit}. A fence goes all around it except for a gate of "
            "{gate:unit}, and costs {price:$} per {unit}. How many dollars does the fence cost?",
            "{name} fences a rectangular {field} of {long:unit} by {wide:unit} but leaves {gate:unit} open. "
            "At {price:$} for each {unit} of fence, how many dollars does {he} pay?",
            "Fence is sold at {price:$} per {unit}. A rectangular {field} measures {long:unit} by {wide:unit}, and "
            "{gate:unit} of its edge need none. What does the fence cost in dollars?",
        ),
        steps=(
            "half = long + wide | unit | for two sides",
            "around = half * 2 | unit | all around",
            "fence = around - gate | unit | of fence",
            "cost = fence * price | dollar | for the fence",
        ),
    ),
    medium(
        "orchard_crates",
        "farm",
        numbers="rows=4..15 trees=5..20 yield=10..30 crate=15|20|25|30",
        words={"fruit": "apple|pear|cherry|peach"},
        texts=(
            "An orchard has {rows:row} of {trees:tree}. Each tree gives {yield:kilogram} of {fruits}. "
            "If a crate holds {crate:kilogram}, how many crates are filled?",
            "{name} owns {rows:row} of {trees:tree}. A tree bears {yield:kilogram} of {fruits}, and {he} packs "
            "{crate:kilogram} in a crate. How many crates does {he} need?",
            "There are {rows:row} with {trees:tree} in each, and every tree yields {yield:kilogram} of {fruits}. "
            "How many crates of {crate:kilogram} does the harvest fill?",
        ),
        steps=(
            "all = rows * trees | tree | in the orchard",
            "harvest = all * yield | kilogram | of {fruits}",
            "crates = harvest / crate | crate | filled",
        ),
    ),
    medium(
        "saving_for_sets",
        "money",
        numbers="weeks=8..30 weekly=10..40/5 gift=20..150/5 price=10|15|20|25|30|35|40|45|50|60",
        words={"thing": "paint set|tool kit|board game|plant pot|jigsaw puzzle"},
        texts=(
            "{name} saves {weekly:$} a week for {weeks:week} and gets {gift:$} as a gift. "
            "How many {things} at {price:$} each can {he} buy with all of it?",
            "For {weeks:week}, {name} puts {weekly:$} a week in a jar. {His} uncle adds {gift:$}. If a {thing} costs "
            "{price:$}, how many {things} does the money in the jar buy?",
            "A club saves {weekly:$} every week. After {weeks:week} it also wins {gift:$} and spends everything on "
            "{things} at {price:$} each. How many {things} does it get?",
        ),
        steps=(
            "saved = weeks * weekly | dollar | saved",
            "all = saved + gift | dollar | to spend",
            "bought = all / price | thing | for the money",
        ),
    ),
    medium(
        "working_together",
        "work rates",
        numbers="a=6..25 b=6..25 hours=3..9 more=10..80 rate=a+b made=rate*hours order=made+more",
        words={"part": "chair|lamp|box|toy|frame"},
        texts=(
            "{name} makes {a:part} an hour and {name2} makes {b}. They have an order of {order:part}. "
            "How many {parts} are missing after {hours:hour}?",
            "One machine makes {a:part} an hour, another {b}. Both run for {hours:hour}. "
            "How many {parts} of an order of {order} still have to be made?",
            "An order asks for {order:part}. Two workers make {a} and {b:part} an hour. "
            "After {hours:hour} of work together, how many {parts} are left to make?",
        ),
        steps=(
            "rate = a + b | part | an hour together",
            "made = rate * hours | part | made",
            "left = order - made | part | still to make",
        ),
    ),
    medium(
        "training_hours",
        "time",
        numbers="days=4..20 daily=30..120/15 extra=30..240/15",
        words={"sport": "rowing|tennis|judo|running|climbing"},
        texts=(
            "{name} practices {sport} for {daily:minute} on each of {days:day}, and once more for {extra:minute}. "
            "How many hours does {he} practice?",
            "A {sport} camp has {days:session} of {daily:minute} and a final of {extra:minute}. "
            "How many hours is that in all?",
            "On {days:day} {name} spends {daily:minute} a day on {sport}, and {extra:minute} at a weekend event. "
            "How many hours does that make?",
        ),
        steps=(
            "usual = days * daily | minute | on the usual days",
            "all = usual + extra | minute | in all",
            "hours = all / 60 | hour | in all",
        ),
    ),
    medium(
        "theater_profit",
        "leisure",
        numbers="rows=8..20 seats=10..25 empty=10..60 price=5..14 rent=100..900/50",
        words={"show": "play|concert|magic show|puppet show"},
        texts=(
            "A hall has {rows:row} of {seats:seat}. For a {show}, all but {empty:seat} are sold at {price:$} each. "
            "The hall costs {rent:$} to rent. How many dollars are left?",
            "{name} puts on a {show} in a hall of {rows:row} with {seats:seat} each. {empty:seat} stay empty, a ticket "
            "costs {price:$} and the rent is {rent:$}. How many dollars does {he} keep?",
            "Tickets for a {show} cost {price:$}. The theater has {rows:row} of {seats:seat}, of which {empty} are not "
            "sold. After paying {rent:$} in rent, how many dollars remain?",
        ),
        steps=(
            "all = rows * seats | seat | in the hall",
            "sold = all - empty | seat | sold",
            "income = sold * price | dollar | from tickets",
            "profit = income - rent | dollar | left after rent",
        ),
    ),
    medium(
        "family_ages",
        "ages",
        numbers="age=8..16 times=3..4 younger=3..10 years=5..20",
        words={"elder": "mother|father|stepmother|stepfather", "other": "godfather|coach|neighbor|piano teacher"},
        texts=(
            "{name} is {age:year} old. {His} {elder} is {times} times as old, and {his} {other} is {younger:year} "
            "younger than the {elder}. How many years old will the {other} be in {years:year}?",
            "{name}'s {elder} is {times} times as old as {name}, who is {age}. The {elder} is {younger:year} older "
            "than {name}'s {other}. What will the {other}'s age be in {years:year}, in years?",
            "At {age}, {name} has a {elder} {times} times {his} age and a {other} {younger:year} younger than the "
            "{elder}. How many years old is the {other} in {years:year}?",
        ),
        steps=(
            "now = age * times | year | of age for the {elder}",
            "friend = now - younger | year | of age for the {other}",
            "then = friend + years | year | of age later",
        ),
    ),
    medium(
        "library_boxes",
        "school",
        numbers="shelves=6..25 books=18..42/6 new=24..180/6 box=6|12|18|24",
        words={"kind": "novel|atlas|workbook|comic"},
        texts=(
            "A library has {shelves:shelf} with {books:book} each and buys {new:kind}. For a move, the books go in "
            "boxes of {box}. How many boxes are filled?",
            "{name} packs the books of {shelves:shelf}, {books} on each, together with {new} new {kinds}. "
            "A box holds {box:book}. How many boxes does {he} fill?",
            "There are {books:book} on each of {shelves:shelf}, and {new:kind} arrive. All of them are packed "
            "{box} to a box. How many boxes is that?",
        ),
        steps=(
            "old = shelves * books | book | on the shelves",
            "all = old + new | book | in all",
            "boxes = all / box | box | filled",
        ),
    ),
    medium(
        "animal_feed",
        "farm",
        numbers="animals=6..30 daily=2..9 days=5..21 stock=50..600/10",
        words={"animal": "goat|sheep|pony|pig|donkey", "feed": "hay|grain|turnips"},
        texts=(
            "Each of {animals:animal} eats {daily:kilogram} of {feed} a day. There are {stock:kilogram} in the barn. "
            "How many more kilograms are needed for {days:day}?",
            "{name} keeps {animals:animal}. One {animal} needs {daily:kilogram} of {feed} a day, and {he} has "
            "{stock:kilogram}. How many kilograms must {he} buy for {days:day}?",
            "A farm feeds {animals:animal} with {daily:kilogram} of {feed} each per day. With {stock:kilogram} in "
            "store, how many kilograms are missing for {days:day}?",
        ),
        steps=(
            "day = animals * daily | kilogram | a day",
            "need = day * days | kilogram | needed",
            "buy = need - stock | kilogram | to buy",
        ),
    ),
    medium(
        "office_order",
        "shopping",
        numbers="n1=5..20 p1=6..25 n2=4..18 p2=8..30 paid=500|600|800|1000",
        words={"first": "folder|stapler|desk fan|clock", "second": "lamp|calendar|tray|whiteboard"},
        texts=(
            "{name} orders {n1:first} at {p1:$} each and {n2:second} at {p2:$} each. {He} pays with {paid:$}. "
            "How many dollars come back?",
            "An office has {paid:$} to spend. It buys {n1:first} for {p1:$} apiece and {n2:second} for {p2:$} apiece. "
            "How many dollars are not spent?",
            "A {first} costs {p1:$} and a {second} costs {p2:$}. From a budget of {paid:$}, {name} buys {n1} of the "
            "former and {n2} of the latter. How many dollars remain?",
        ),
        steps=(
            "cost1 = n1 * p1 | dollar | for {firsts}",
            "cost2 = n2 * p2 | dollar | for {seconds}",
            "cost = cost1 + cost2 | dollar | for both",
            "back = paid - cost | dollar | left over",
        ),
    ),
    medium(
        "leaking_tank",
        "mixtures",
        numbers="inflow=15..60 leak=2..12 minutes=10..45 start=50..500/10",
        words={"vessel": "tank|pool|cistern|pond"},
        texts=(
            "A {vessel} holds {start:liter}. A pipe brings {inflow:liter} a minute while a leak loses {leak:liter} a "
            "minute. How many liters are in it after {minutes:minute}?",
            "{name} fills a {vessel} that already has {start:liter} of water. Each minute {inflow:liter} flow in and "
            "{leak:liter} leak out. How many liters does it hold after {minutes:minute}?",
            "Water enters a {vessel} at {inflow:liter} a minute and leaves it at {leak:liter} a minute. Starting with "
            "{start:liter}, how many liters are there {minutes:minute} later?",
        ),
        steps=(
            "gain = inflow - leak | liter | gained a minute",
            "added = gain * minutes | liter | gained in all",
            "level = start + added | liter | in the {vessel}",
        ),
    ),
    medium(
        "floor_tiles",
        "geometry",
        numbers="long=5..20 wide=4..15 tiles=4|9|16|25 box=10|12|15|20|30",
        words={"room": "kitchen|hall|bathroom|terrace"},
        texts=(
            "A rectangular {room} is {long:meter} by {wide:meter}. It takes {tiles:tile} per square meter, and a box "
            "has {box:tile}. How many boxes are needed?",
            "{name} tiles a rectangular {room} of {long:meter} by {wide:meter} with {tiles:tile} on each square "
            "meter. Tiles come in boxes of {box}. How many boxes does {he} use?",
            "For each square meter of a {room}, {tiles:tile} are laid. The {room} is a rectangle of {long:meter} by "
            "{wide:meter}. How many boxes of {box:tile} is that?",
        ),
        steps=(
            "area = long * wide | square meter | of floor",
            "all = area * tiles | tile | on the floor",
            "boxes = all / box | box | of tiles",
        ),
    ),
    medium(
        "league_points",
        "sports",
        numbers="wins=5..20 per_win=4..7 draws=4..15 per_draw=2..3 rival=10..60",
        words={"team": "Falcons|Tigers|Comets|Bears"},
        texts=(
            "A win gives {per_win:point} and a draw {per_draw}. The {team} have {wins:win} and {draws:draw}. "
            "Their rivals have {rival:point}. By how many points do the {team} lead?",
            "The {team} win {wins:game} at {per_win:point} each and draw {draws:game} at {per_draw:point} each. "
            "How many points more than the {rival} of the second team is that?",
            "In a league with {per_win:point} for a win and {per_draw} for a draw, {name}'s team, the {team}, gets "
            "{wins:win} and {draws:draw}. How far, in points, is it ahead of a team with {rival:point}?",
        ),
        steps=(
            "won = wins * per_win | point | from wins",
            "drawn = draws * per_draw | point | from draws",
            "total = won + drawn | point | in total",
            "lead = total - rival | point | ahead",
        ),
    ),
    medium(
        "reading_weeks",
        "time",
        numbers="weeks=2..9 pages=12..45 read=20..150",
        words={"text": "novel|report|biography|script"},
        texts=(
            "A {text} keeps {name} busy for {weeks:week} at {pages:page} a day, seven days a week. {He} has read "
            "{read:page} so far. How many pages are left?",
            "{name} plans to read {pages:page} of a {text} every day for {weeks:week} and finishes it exactly. "
            "After {read:page}, how many pages remain?",
            "Reading {pages:page} each day, {name} needs {weeks} full weeks for a {text}. "
            "How many pages are still unread after page {read}?",
        ),
        steps=(
            "days = weeks * 7 | day | of reading",
            "all = days * pages | page | in the {text}",
            "left = all - read | page | left",
        ),
    ),
)
