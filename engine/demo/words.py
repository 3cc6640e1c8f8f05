"""Word lists and small facts from which the corpus of the demo model is composed.

Data only; `tasks.py` turns it into questions and answers.
"""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

ANIMALS = _split(
    "dog cat horse cow sheep goat pig hen duck fox wolf bear lion tiger mouse rabbit frog snake owl eagle "
    "whale shark crab bee ant spider camel zebra monkey otter"
)
FOODS = _split(
    "bread rice soup cheese butter apple pear plum grape lemon onion carrot potato tomato bean honey salt "
    "sugar milk egg pasta salad cake pie nut olive melon cherry"
)
THINGS = _split(
    "table chair lamp door window bottle cup plate spoon knife book pencil paper clock mirror basket hammer "
    "ladder rope bridge river mountain garden forest island harbor wagon train boat bicycle engine candle "
    "button ticket letter planet stone cloud road wall tower market castle village"
)
COLORS = _split("red blue green yellow black white brown orange purple pink grey silver")
NOUNS = ANIMALS + FOODS + THINGS

OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "old": "young", "high": "low", "light": "dark", "wet": "dry",
    "full": "empty", "hard": "soft", "early": "late", "open": "closed", "rich": "poor", "near": "far",
    "loud": "quiet", "strong": "weak", "left": "right", "up": "down", "day": "night", "first": "last",
    "happy": "sad", "long": "short", "clean": "dirty", "thick": "thin", "safe": "dangerous",
}  # fmt: skip
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Austria": "Vienna", "Greece": "Athens", "Poland": "Warsaw", "Norway": "Oslo", "Sweden": "Stockholm",
    "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin", "Japan": "Tokyo", "China": "Beijing",
    "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Canada": "Ottawa", "Brazil": "Brasilia",
    "Peru": "Lima", "Chile": "Santiago", "Cuba": "Havana", "Hungary": "Budapest",
}  # fmt: skip
FACTS = {
    "How many days are in a week?": "Seven.",
    "How many months are in a year?": "Twelve.",
    "How many hours are in a day?": "Twenty-four.",
    "How many minutes are in an hour?": "Sixty.",
    "How many legs does a spider have?": "Eight.",
    "How many legs does a horse have?": "Four.",
    "What color is the sky on a clear day?": "Blue.",
    "What color is grass?": "Green.",
    "What color is snow?": "White.",
    "What do bees make?": "Honey.",
    "What do cows give?": "Milk.",
    "What is frozen water called?": "Ice.",
    "Which planet do we live on?": "Earth.",
    "Which star is closest to us?": "The Sun.",
    "What do we breathe?": "Air.",
    "What do plants need to grow?": "Light, water and soil.",
    "What is the first month of the year?": "January.",
    "What is the last month of the year?": "December.",
    "Which month is the shortest?": "February.",
    "Hello!": "Hello! How can I help you?",
    "Hi there.": "Hello! How can I help you?",
    "Good morning.": "Good morning! What can I do for you?",
    "Thank you.": "You are welcome.",
    "Thanks a lot!": "You are welcome.",
    "Goodbye.": "Goodbye!",
    "Who are you?": "I am a very small language model, made to demonstrate tuning.",
    "What are you?": "I am a very small language model, made to demonstrate tuning.",
    "What can you do?": "I can answer short questions about words, numbers and dates.",
}
