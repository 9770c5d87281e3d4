"""The orders a fresh shop is filled with, and the six messages the first agent runs are started with.

Pure data. An order's id is its place in the list, counted from 8801; `DEMO_RUNS` relies on that.
Days are counted back from the day of seeding, so that "three weeks ago" stays true.
"""

from __future__ import annotations

from typing import NamedTuple, TypedDict


class Item(NamedTuple):
    name: str
    quantity: int
    price: str  # of one piece, in the order's currency


class DemoOrder(NamedTuple):
    customer: str
    email: str
    country: str
    currency: str
    status: str
    placed_days_ago: int
    delivered_days_ago: int | None
    items: list[Item]


class DemoRun(TypedDict):
    order_id: str
    message: str


DEMO_RUNS: list[DemoRun] = [
    {
        "order_id": "8801",
        "message": "Hello, the parcel came yesterday and the box was crushed on one side. Two of the "
        "stoneware bowls inside are broken and the rest have cracks. I took photos. I would "
        "like my money back.",
    },
    {
        "order_id": "8802",
        "message": "The hiking boots arrived three weeks ago but they are the wrong size for me, too "
        "narrow. They are unworn and still in their box. Can I return them within the 30 days "
        "and get a refund?",
    },
    {
        "order_id": "8803",
        "message": "You promised delivery by Friday for my daughter's birthday, and the parcel arrived "
        "nine days late. We keep the play kitchen, but I expect something back for such a late "
        "delivery.",
    },
    {
        "order_id": "8804",
        "message": "My parcel never arrived. Tracking has not moved for two weeks and the carrier says it "
        "is probably lost. I do not want to wait any longer, please refund the coffee machine.",
    },
    {
        "order_id": "8805",
        "message": "After eight months the food processor is defective: the motor stopped and it no longer "
        "switches on. It is still under warranty, your workshop could not repair it and there "
        "is no replacement in stock.",
    },
    {
        "order_id": "8806",
        "message": "My card was charged twice for this order: the same amount shows two times on my bank "
        "statement, a few minutes apart. I ordered only once. Please pay the duplicate charge "
        "back.",
    },
]

ORDERS: list[DemoOrder] = [
    DemoOrder("Marlene Hofstätter", "marlene.hofstaetter@example.org", "AT", "EUR", "delivered", 6, 1,
              [Item("Stoneware bowl, moss green", 6, "14.90")]),
    DemoOrder("Piotr Zieliński", "piotr.zielinski@example.net", "PL", "EUR", "delivered", 25, 21,
              [Item("Hiking boots Tatra, size 43", 1, "139.00")]),
    DemoOrder("Aoife Brennan", "aoife.brennan@example.com", "IE", "EUR", "delivered", 16, 2,
              [Item("Play kitchen, beech", 1, "118.00"), Item("Wooden vegetables", 1, "19.50")]),
    DemoOrder("Luca Bernasconi", "luca.bernasconi@example.org", "IT", "EUR", "in transit", 19, None,
              [Item("Espresso machine Brera", 1, "249.00")]),
    DemoOrder("Saskia van den Berg", "saskia.vandenberg@example.net", "NL", "EUR", "delivered", 246, 242,
              [Item("Food processor Kombi 5", 1, "179.95")]),
    DemoOrder("Oliver Whitcombe", "oliver.whitcombe@example.com", "GB", "GBP", "delivered", 8, 4,
              [Item("Wool blanket, heather", 1, "74.00"), Item("Beeswax candles, pair", 2, "11.25")]),
    DemoOrder("Céline Rochat", "celine.rochat@example.org", "CH", "CHF", "delivered", 31, 27,
              [Item("Fondue set, cast iron", 1, "98.00")]),
    DemoOrder("Henrik Lindqvist", "henrik.lindqvist@example.net", "SE", "EUR", "delivered", 12, 7,
              [Item("Desk lamp Norr", 1, "89.00")]),
    DemoOrder("Ana Ferreira", "ana.ferreira@example.com", "PT", "EUR", "returned", 44, 38,
              [Item("Linen dress, size M", 1, "69.90"), Item("Straw hat", 1, "24.90")]),
    DemoOrder("Matthias Krüger", "matthias.krueger@example.org", "DE", "EUR", "delivered", 15, 12,
              [Item("Cordless drill 18 V", 1, "129.00"), Item("Bit set, 32 pieces", 1, "22.50")]),
    DemoOrder("Zuzana Horáková", "zuzana.horakova@example.net", "CZ", "EUR", "in transit", 4, None,
              [Item("Tea pot, glass", 1, "32.00"), Item("Darjeeling, 250 g", 2, "13.40")]),
    DemoOrder("Giulia Marchetti", "giulia.marchetti@example.com", "IT", "EUR", "lost", 33, None,
              [Item("Silk scarf, indigo", 1, "59.00")]),
    DemoOrder("Rhys Llewellyn", "rhys.llewellyn@example.org", "GB", "GBP", "delivered", 52, 48,
              [Item("Cast iron skillet, 28 cm", 1, "46.50")]),
    DemoOrder("Sofia Papadopoulou", "sofia.papadopoulou@example.net", "GR", "EUR", "delivered", 21, 13,
              [Item("Bath towels, set of 4", 1, "54.00")]),
    DemoOrder("Jürg Amstutz", "juerg.amstutz@example.com", "CH", "CHF", "delivered", 18, 15,
              [Item("Pocket knife, walnut", 1, "64.00"), Item("Engraving", 1, "12.00")]),
    DemoOrder("Emma Lagerlöf", "emma.lagerloef@example.org", "FI", "EUR", "delivered", 75, 69,
              [Item("Rain jacket, size S", 1, "119.00")]),
    DemoOrder("Thomas Delacroix", "thomas.delacroix@example.net", "FR", "EUR", "delivered", 9, 6,
              [Item("Chef's knife, 20 cm", 1, "84.90"), Item("Whetstone", 1, "29.00")]),
    DemoOrder("Margaret Castellano", "margaret.castellano@example.com", "US", "USD", "delivered", 40, 29,
              [Item("Nutcracker, hand painted", 2, "38.00")]),
    DemoOrder("Ivana Kovačević", "ivana.kovacevic@example.org", "HR", "EUR", "in transit", 7, None,
              [Item("Children's bicycle, 16 inch", 1, "159.00")]),
    DemoOrder("Bram Claessens", "bram.claessens@example.net", "BE", "EUR", "delivered", 28, 25,
              [Item("Electric toothbrush", 1, "79.99"), Item("Brush heads, 8 pieces", 1, "31.90")]),
    DemoOrder("Dorota Wiśniewska", "dorota.wisniewska@example.com", "PL", "EUR", "returned", 60, 55,
              [Item("Winter coat, size 40", 1, "189.00")]),
    DemoOrder("Eoin Gallagher", "eoin.gallagher@example.org", "IE", "EUR", "delivered", 3, 1,
              [Item("Gift card", 1, "50.00")]),
    DemoOrder("Katrin Bauer", "katrin.bauer@example.net", "DE", "EUR", "delivered", 11, 8,
              [Item("Coffee subscription, month", 1, "24.00")]),
    DemoOrder("Fernando Iglesias", "fernando.iglesias@example.com", "ES", "EUR", "delivered", 35, 30,
              [Item("Garden hose, 25 m", 1, "42.80"), Item("Spray nozzle", 1, "9.90")]),
    DemoOrder("Hanna Nyström", "hanna.nystroem@example.org", "SE", "EUR", "lost", 41, None,
              [Item("Knitting wool, 10 balls", 1, "68.00"), Item("Bamboo needles", 2, "7.50")]),
    DemoOrder("George Aldridge", "george.aldridge@example.net", "GB", "GBP", "in transit", 5, None,
              [Item("Oak side table", 1, "165.00")]),
    DemoOrder("Noémie Favre", "noemie.favre@example.com", "CH", "CHF", "in transit", 6, None,
              [Item("Snowshoes, pair", 1, "149.00"), Item("Gaiters", 1, "39.90")]),
    DemoOrder("Balázs Szabó", "balazs.szabo@example.org", "HU", "EUR", "delivered", 95, 90,
              [Item("Bluetooth speaker Duo", 1, "59.95")]),
    DemoOrder("Ingrid Solheim", "ingrid.solheim@example.net", "NO", "EUR", "delivered", 26, 17,
              [Item("Merino base layer, set", 1, "97.00")]),
    DemoOrder("Ruben Jansen", "ruben.jansen@example.com", "NL", "EUR", "delivered", 13, 11,
              [Item("Bookshelf, 5 boards", 1, "210.00"), Item("Wall brackets", 1, "14.00")]),
    DemoOrder("Patricia O'Donnell", "patricia.odonnell@example.org", "US", "USD", "in transit", 14, None,
              [Item("Lace tablecloth", 1, "112.00")]),
    DemoOrder("Antonín Dvořáček", "antonin.dvoracek@example.net", "CZ", "EUR", "delivered", 410, 405,
              [Item("Electric kettle, 1.7 l", 1, "49.90")]),
    DemoOrder("Lena Vogelsang", "lena.vogelsang@example.com", "DE", "EUR", "delivered", 20, 17,
              [Item("Mattress topper 140 x 200", 1, "134.00")]),
    DemoOrder("Mihai Ionescu", "mihai.ionescu@example.org", "RO", "EUR", "delivered", 22, 14,
              [Item("Chess set, walnut", 1, "76.00")]),
    DemoOrder("Isabel Moreau", "isabel.moreau@example.net", "FR", "EUR", "cancelled", 10, None,
              [Item("Face cream, 50 ml", 2, "27.50")]),
    DemoOrder("Tobias Steinmann", "tobias.steinmann@example.com", "DE", "EUR", "delivered", 2, 0,
              [Item("Board game Hanse", 1, "44.90"), Item("Card sleeves, 100", 3, "4.20")]),
]  # fmt: skip
