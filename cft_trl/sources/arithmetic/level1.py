"""Level 1: two steps on small whole numbers, no result above 100. The notation is told in template.py.

Nora has 3 boxes of pencils with 8 pencils in each box. She gives away 5 pencils. How many pencils are left?
3 × 8 = 24 pencils in the boxes; 24 - 5 = 19 pencils left
"""

from functools import partial

from .template import Template

easy = partial(Template, 1)

LEVEL_1 = (
    easy(
        "pencil_boxes",
        "school",
        numbers="boxes=2..9 each=3..9 given=2..9",
        words={"item": "pencil|marker|crayon|eraser|ruler"},
        texts=(
            "{name} has {boxes:box} of {items} with {each:item} in each box. {He} gives away {given:item}. "
            "How many {items} are left?",
            "There are {each:item} in a box. {name} buys {boxes:box} and hands {given:item} to {name2}. "
            "How many {items} does {name} keep?",
            "A teacher opens {boxes:box} of {each:item} each. The class uses {given:item}. How many {items} remain?",
        ),
        steps=("total = boxes * each | item | in the boxes", "left = total - given | item | left"),
    ),
    easy(
        "change_from_a_bill",
        "shopping",
        numbers="count=2..8 price=2..9 paid=20|50|100",
        words={"item": "notebook|mug|sandwich|candle|poster|toy car"},
        texts=(
            "A {item} costs {price:$}. {name} buys {count:item} and pays with {paid:$}. "
            "How many dollars does {he} get back?",
            "{name} has {paid:$} and buys {count:item} at {price:$} each. How many dollars does {he} have left?",
            "At a shop, {count:item} go into {name}'s basket at {price:$} each. {He} hands over {paid:$}. "
            "How much change, in dollars, is due?",
        ),
        steps=("cost = count * price | dollar | for the {items}", "change = paid - cost | dollar | in change"),
    ),
    easy(
        "tickets_and_snack",
        "leisure",
        numbers="count=2..8 price=3..9 snack=2..15",
        words={"place": "cinema|zoo|museum|fair|circus", "snack_name": "popcorn|lunch|juice|parking"},
        texts=(
            "{name} buys {count:ticket} for the {place} at {price:$} each and pays {snack:$} for {snack_name}. "
            "How many dollars does {he} spend?",
            "A {place} ticket costs {price:$}. A group needs {count:ticket} and spends {snack:$} more on {snack_name}. "
            "What is the total cost in dollars?",
            "For a day at the {place}, {name} pays for {count:ticket} at {price:$} each, plus {snack:$} for "
            "{snack_name}. How many dollars is that in all?",
        ),
        steps=("tickets = count * price | dollar | for tickets", "total = tickets + snack | dollar | in all"),
    ),
    easy(
        "shared_harvest",
        "farm",
        numbers="kids=2..8 share=2..9 first=2..15 total=kids*share second=total-first",
        words={"fruit": "apple|peach|plum|lemon|pear"},
        texts=(
            "{name} picks {first:fruit} and {name2} picks {second:fruit}. They put them into {kids:basket} equally. "
            "How many {fruits} are in each basket?",
            "One tree gives {first:fruit} and another gives {second:fruit}. {kids:child} share them equally. "
            "How many {fruits} does each child get?",
            "A farmer gathers {first:fruit} before noon and {second:fruit} after noon, then fills {kids:bag} with "
            "the same number. How many {fruits} go in a bag?",
        ),
        steps=("total = first + second | fruit | picked", "each = total / kids | fruit | in each share"),
    ),
    easy(
        "bus_stop",
        "travel",
        numbers="start=8..40 off=2..15 on=2..15",
        words={"vehicle": "bus|train|tram|ferry", "stop": "the market|the park|the bridge|the library"},
        texts=(
            "A {vehicle} carries {start:person}. At {stop}, {off:person} get off and {on:person} get on. "
            "How many people are on the {vehicle} now?",
            "{start:person} ride a {vehicle}. {off:person} leave at {stop} and {on:person} board. "
            "How many people does it carry after that?",
            "When {name} counts, {start:person} are on the {vehicle}. Near {stop} it loses {off:person} and takes in "
            "{on:person}. How many people are there now?",
        ),
        steps=("stayed = start - off | person | staying on", "now = stayed + on | person | on board"),
    ),
    easy(
        "reading_days",
        "school",
        numbers="days=2..7 pages=4..12 extra=2..15",
        words={"book": "novel|comic|mystery|history book"},
        texts=(
            "{name} reads {pages:page} of a {book} every day for {days:day} and then {extra:page} more. "
            "How many pages does {he} read?",
            "For {days:day}, {name} reads {pages:page} a day. On the last evening {he} adds {extra:page}. "
            "How many pages of the {book} is that?",
            "A {book} takes {name} {days:day} at {pages:page} a day, plus {extra:page} on the weekend. "
            "How many pages does it have?",
        ),
        steps=("daily = days * pages | page | on the usual days", "all = daily + extra | page | in all"),
    ),
    easy(
        "perimeter",
        "geometry",
        numbers="long=6..24 wide=2..12",
        words={"field": "garden|yard|rug|table|pond|field", "unit": "meter|foot"},
        texts=(
            "A rectangular {field} is {long:unit} long and {wide:unit} wide. What is its perimeter in {units}?",
            "{name} walks once around a rectangular {field} of {long} by {wide:unit}. How many {units} does {he} walk?",
            "How many {units} of ribbon go around a rectangular {field} with sides of {long:unit} and {wide:unit}?",
        ),
        steps=("half = long + wide | unit | for two sides", "whole = half * 2 | unit | around"),
    ),
    easy(
        "recipe_batches",
        "cooking",
        numbers="batches=2..8 cups=2..8 have=2..9",
        words={"food": "flour|oats|rice|sugar", "dish": "muffins|pancakes|cookies|rolls"},
        texts=(
            "A batch of {dish} takes {cups:cup} of {food}. {name} makes {batches:batch} and already has {have:cup}. "
            "How many more cups of {food} does {he} need?",
            "{name} wants {batches:batch} of {dish} with {cups:cup} of {food} in each. {He} owns {have:cup} of {food}. "
            "How many cups must {he} buy?",
            "To bake {batches:batch} of {dish}, each needing {cups:cup} of {food}, a cook starts from a jar of "
            "{have:cup}. How many cups are still missing?",
        ),
        steps=("need = batches * cups | cup | needed", "missing = need - have | cup | to buy"),
    ),
    easy(
        "age_multiple",
        "ages",
        numbers="age=7..12 times=3..5 later=2..12",
        words={"relative": "mother|father|neighbor|teacher|coach"},
        texts=(
            "{name} is {age:year} old. {His} {relative} is {times} times as old. "
            "How many years old will the {relative} be in {later:year}?",
            "{name}'s {relative} is {times} times {his} age, and {name} is {age}. "
            "What will the {relative}'s age be, in years, {later:year} from now?",
            "A child of {age:year} has a {relative} who is {times} times as old. In {later:year}, how many years old "
            "is the {relative}?",
        ),
        steps=("now = age * times | year | of age now", "then = now + later | year | of age later"),
    ),
    easy(
        "game_points",
        "sports",
        numbers="goals=3..12 worth=2..6 bonus=2..15",
        words={"goal": "basket|goal|hoop|target"},
        texts=(
            "{name} hits {goals:goal} worth {worth:point} each and gets {bonus:point} as a bonus. "
            "How many points does {he} score?",
            "Each {goal} is worth {worth:point}. A team makes {goals:goal} and earns {bonus:point} more for fair play. "
            "How many points is that?",
            "In a game, {goals:goal} count {worth:point} each. With {bonus} extra points, "
            "how many points does {name} have?",
        ),
        steps=("scored = goals * worth | point | from play", "total = scored + bonus | point | in total"),
    ),
    easy(
        "egg_cartons",
        "farm",
        numbers="cartons=2..9 size=4|6|8|10 kept=2..15 full=cartons*size laid=full+kept",
        words={"bird": "hen|duck|chicken"},
        texts=(
            "The {birds} on a farm lay {laid:egg}. {name} keeps {kept:egg} and packs the rest in cartons of {size}. "
            "How many cartons does {he} fill?",
            "{name} collects {laid:egg} from the {birds} and uses {kept:egg}. The rest fill cartons of {size:egg}. "
            "How many cartons is that?",
            "Out of {laid:egg} from the {birds}, {kept:egg} are cracked. The good ones fill cartons of {size}. "
            "How many full cartons are there?",
        ),
        steps=("rest = laid - kept | egg | to pack", "filled = rest / size | carton | filled"),
    ),
    easy(
        "practice_time",
        "time",
        numbers="days=2..6 daily=5..15 extra=3..20",
        words={"skill": "piano|violin|chess|drawing|guitar"},
        texts=(
            "{name} practices {skill} for {daily:minute} on each of {days:day}, and {extra:minute} on Sunday. "
            "How many minutes is that?",
            "On {days:day} {name} spends {daily:minute} a day on {skill}. A lesson adds {extra:minute}. "
            "How many minutes does {he} spend in all?",
            "A {skill} course has {days:lesson} of {daily:minute} and a test of {extra:minute}. "
            "How many minutes does it take?",
        ),
        steps=("usual = days * daily | minute | on the usual days", "all = usual + extra | minute | in all"),
    ),
    easy(
        "road_left",
        "travel",
        numbers="days=2..7 daily=3..12 left=2..20 done=days*daily route=done+left",
        words={"trail": "trail|river path|coast road|valley road"},
        texts=(
            "A {trail} is {route:kilometer} long. {name} walks {daily:kilometer} a day for {days:day}. "
            "How many kilometers remain?",
            "{name} hikes {daily:kilometer} each day. After {days:day} on a {trail} of {route:kilometer}, "
            "how many kilometers does {he} still have to go?",
            "For {days:day}, a group covers {daily:kilometer} a day on a {trail} of {route:kilometer}. "
            "How many kilometers are left?",
        ),
        steps=("walked = days * daily | kilometer | walked", "rest = route - walked | kilometer | to go"),
    ),
    easy(
        "saving_up",
        "money",
        numbers="weeks=2..9 saved=3..9 start=2..20",
        words={"goal": "bike|camera|guitar|tent|kite"},
        texts=(
            "{name} has {start:$} and saves {saved:$} a week toward a {goal}. "
            "How many dollars does {he} have after {weeks:week}?",
            "To buy a {goal}, {name} puts aside {saved:$} every week for {weeks:week}. {He} started with {start:$}. "
            "How many dollars are there now?",
            "A jar for a {goal} holds {start:$}. {name} adds {saved:$} a week for {weeks:week}. "
            "How many dollars does the jar hold then?",
        ),
        steps=("added = weeks * saved | dollar | saved", "total = start + added | dollar | in all"),
    ),
    easy(
        "cookies_shared",
        "cooking",
        numbers="friends=2..8 eaten=2..5 kept=2..8 share=eaten+kept total=friends*share",
        words={"treat": "cookie|cracker|grape|candy|cherry"},
        texts=(
            "{friends:child} share {total:treat} equally. Each child eats {eaten:treat} at once. "
            "How many {treats} does each child still have?",
            "{name} divides {total:treat} among {friends:plate}. Then {eaten:treat} are eaten from each plate. "
            "How many {treats} are left on a plate?",
            "A bag of {total:treat} is split equally by {friends:friend}. {name} eats {eaten} of {his} own. "
            "How many {treats} does {he} have left?",
        ),
        steps=("each = total / friends | treat | in each share", "left = each - eaten | treat | left of a share"),
    ),
    easy(
        "half_price",
        "shopping",
        numbers="half=5..30 post=2..15 price=half*2",
        words={"item": "jacket|lamp|backpack|game|radio"},
        texts=(
            "A {item} costs {price:$} and is on sale for half price. Delivery is {post:$}. "
            "How many dollars does {name} pay?",
            "{name} orders a {item} at half of its {price:$} price and pays {post:$} for shipping. "
            "How many dollars is that in total?",
            "The usual price of a {item} is {price:$}. Today it is half off, plus a fee of {post:$}. "
            "How many dollars does it cost?",
        ),
        steps=("sale = price / 2 | dollar | at half price", "total = sale + post | dollar | to pay"),
    ),
    easy(
        "free_seats",
        "leisure",
        numbers="rows=3..9 seats=4..10 taken=5..30",
        words={"hall": "theater|classroom|tent|small cinema"},
        texts=(
            "A {hall} has {rows:row} of {seats:seat}. {taken:seat} are taken. How many seats are free?",
            "{name} sets up {rows:row} with {seats:seat} each in a {hall}, and {taken:guest} sit down. "
            "How many seats stay empty?",
            "There are {rows:row} in a {hall} and {seats:seat} in each row. If {taken:person} come, "
            "how many seats are not used?",
        ),
        steps=("all = rows * seats | seat | in the rows", "free = all - taken | seat | free"),
    ),
    easy(
        "cut_rope",
        "work",
        numbers="pieces=2..9 piece=2..9 waste=2..15 used=pieces*piece rope=used+waste",
        words={"stuff": "rope|wire|ribbon|pipe", "unit": "meter|inch|foot"},
        texts=(
            "{name} has {rope:unit} of {stuff} and cuts off {waste:unit}. The rest is cut into {pieces:piece} of "
            "equal length. How many {units} long is each?",
            "From a {stuff} of {rope:unit}, {waste:unit} are thrown away. What is left makes {pieces} equal pieces. "
            "How many {units} long is one piece?",
            "A {stuff} is {rope:unit} long. After {waste:unit} are sold, {name} splits the rest into {pieces} equal "
            "parts. How many {units} does a part measure?",
        ),
        steps=("rest = rope - waste | unit | of {stuff} left", "each = rest / pieces | unit | in each piece"),
    ),
    easy(
        "wages",
        "work",
        numbers="first=2..8 second=2..8 wage=3..9",
        words={"job": "washes cars|walks dogs|rakes leaves|paints fences|delivers papers"},
        texts=(
            "{name} {job} for {first:hour} on Monday and {second:hour} on Tuesday. {He} earns {wage:$} an hour. "
            "How many dollars does {he} earn?",
            "For {wage:$} an hour, {name} {job}. {He} works {first:hour} one day and {second:hour} the next. "
            "How many dollars is {he} paid?",
            "{name} {job} at {wage:$} an hour: {first:hour} in the morning and {second:hour} in the afternoon. "
            "How many dollars does that bring?",
        ),
        steps=("hours = first + second | hour | of work", "pay = hours * wage | dollar | earned"),
    ),
    easy(
        "mixed_juice",
        "mixtures",
        numbers="a=2..9 b=2..9 spill=2..6",
        words={"drink": "punch|lemonade|squash|fruit drink"},
        texts=(
            "{name} mixes {a:liter} of juice with {b:liter} of water to make {drink}. Guests drink {spill:liter}. "
            "How many liters of {drink} are left?",
            "A bowl of {drink} is made from {a:liter} of syrup and {b:liter} of water. After {spill:liter} are served, "
            "how many liters remain?",
            "Into a barrel go {a:liter} of water and {b:liter} of fruit juice. {name} takes out {spill:liter} of this "
            "{drink}. How many liters stay in it?",
        ),
        steps=("mix = a + b | liter | in the mix", "left = mix - spill | liter | left"),
    ),
)
