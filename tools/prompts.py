"""Prompts for the text that a teacher writes: `python tools/prompts.py KIND COUNT > prompts.jsonl`.

Every prompt is put together from word lists by a generator seeded with its own number, so the same command gives the
same file, and a longer file begins with the shorter one. Kinds: stories, explanations, questions (conversations for a
model that follows instructions) and openings (beginnings for a model that only writes on).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable

NAMES = """Ada Ali Amir Ana Anna Ben Bela Carlos Chen Clara Dan Dina Elif Emma Eva Fatima Felix Finn Grace Hana Hugo
Ida Ines Iris Ivan Jack Jana Jonas Juan Kai Kofi Lea Leo Lin Lola Luca Lucy Mara Maria Mateo Max Mei Mia Milo Mina
Nadia Nils Nina Noah Nora Omar Oscar Pablo Paul Petra Ravi Rosa Ruth Sam Sara Sofia Tara Theo Tim Tom Uma Vera Wanda
Yara Yuki Zara Zoe""".split()
PEOPLE = """baker|farmer|teacher|nurse|sailor|painter|miller|gardener|shepherd|carpenter|postman|fisherman|weaver|cook|
doctor|shoemaker|librarian|musician|bus driver|old woman|young girl|little boy|grandfather|grandmother|king|queen|
princess|knight|clockmaker|astronaut|lighthouse keeper|beekeeper|tailor|potter|juggler|firefighter|train driver"""
ANIMALS = """bear bee bird cat chicken cow crab crow deer dog dolphin donkey duck eagle elephant fish fly fox frog
goat goose hedgehog horse kitten lamb lion lizard monkey mouse owl panda parrot penguin pig pony puppy rabbit rat
seal sheep snail snake spider squirrel swan tiger turtle whale wolf worm ant bat beaver butterfly camel giraffe
hippo kangaroo mole octopus otter peacock shark zebra""".split()
THINGS = """apple ball bag balloon basket bell bicycle blanket boat book boot bottle bowl box bread brush bucket button
cake candle car carrot chair clock coat coin cookie cup doll door drum egg feather flag flower flute glass glove
hammer hat kettle key kite knife ladder lamp leaf letter map mirror needle nest nut orange pan pear pen pencil piano
picture pillow plate pot potato puzzle ring robot rope sandwich scarf scissors shell shoe sock soup spoon star stick
stone table teapot telescope tent towel toy train tree truck umbrella vase violin wagon watch wheel whistle window
wool""".split()
PLACES = """attic bakery barn beach bridge castle cave city desert farm field forest garden harbour hill hospital
island kitchen lake library market meadow mill mountain museum park playground pond river road school shop station
street tower town village well zoo""".split()
FEELINGS = """afraid angry brave calm cheerful clever curious excited gentle greedy happy honest jealous kind lazy
lonely lost patient polite proud quiet sad shy sleepy sorry stubborn surprised tired wise worried""".split()
EVENTS = """a storm|the first snow|a birthday|a lost letter|a broken bridge|a new neighbour|a long night|a race|
a secret|a mistake|a promise|an unexpected gift|a quarrel|a journey|a picnic|a flood|a missing key|a song|a dream|
a wedding|a fire|a market day|a school play|a rainy day|a hot summer|an empty house|a strange noise|a game|a wish|
a surprise visit|a power cut|a harvest|a festival|a lesson|a difficult choice"""
VERBS = """borrow break build carry catch climb cook count dance dig draw fall feed find fix forget give grow help hide
hurry jump knock laugh learn lift lose mend paint plant play pull push read rest run save search share shout sing sit
sleep smile stop swim swing throw touch trade travel wait wake walk wash whisper wish wonder write""".split()
WISHES = """climb cook dance dig draw fly help hide jump laugh learn paint play read rest run sing sleep smile swim
swing travel whistle win write""".split()
TOPICS = """rain|snow|thunder|the wind|clouds|the rainbow|the seasons|day and night|the moon|the tides|earthquakes|
volcanoes|rivers|deserts|forests|the ocean|mountains|soil|rocks|fossils|dinosaurs|bees|birds' migration|spiders' webs|
how fish breathe|how seeds grow|photosynthesis|leaves in autumn|the heart|the lungs|the brain|bones|muscles|the skin|
teeth|the eyes|hearing|taste|sleep|dreams|hunger|a fever|germs|vaccines|washing hands|exercise|sugar|salt|vitamins|
bread|cheese|honey|chocolate|tea|rice|paper|glass|wood|iron|gold|plastic|cotton|wool|soap|ink|the wheel|the lever|
the pulley|magnets|electricity|batteries|light bulbs|mirrors|shadows|sound|echoes|heat|ice|steam|boats that float|
aeroplanes|bicycles|trains|bridges|houses|clocks|calendars|maps|the compass|money|banks|markets|taxes|laws|courts|
voting|schools|libraries|books|the alphabet|numbers|fractions|percentages|triangles|circles|measuring|averages|chance|
music|drums|the piano|painting|photography|films|the radio|telephones|computers|the internet|programs|robots|
satellites|rockets|the sun|the stars|the planets|comets|gravity|energy|water|air|oxygen|fire|recycling|wells|farming|
fishing|gardens|friendship|honesty|courage|patience|kindness|saying sorry|sharing|teamwork|practice|reading|writing a
letter|telling the time|crossing a road|planning a day|saving money|cooking soup|baking a cake|mending clothes|
planting a tree|caring for a dog|keeping a diary|learning a language|giving a speech|first aid|headaches|
allergies|medicine|doctors|hospitals|firefighters|the post|newspapers|history|museums|kings and queens|castles|ships|
trade|coins|the Romans|ancient Egypt|farms long ago|cities|villages|rivers and towns|weather forecasts|umbrellas"""
COUNTRIES = """France Spain Italy Germany Japan China India Egypt Kenya Brazil Canada Mexico Peru Norway Sweden Greece
Poland Turkey Russia Portugal Austria Ireland Finland Denmark Hungary Argentina Chile Cuba Iran Iraq Thailand
Vietnam Australia Nigeria Ghana Morocco""".split()
TASKS = """make tea|boil an egg|wash a shirt|tie my shoes|plant a tomato|clean a window|write a letter|fix a flat tyre|
bake bread|make a salad|learn to swim|fall asleep|stop a nosebleed|save water|save money|make a friend|say sorry|
choose a book|study for a test|remember names|pack a suitcase|cook rice|peel an orange|sharpen a pencil|fold a map|
make a paper boat|build a birdhouse|feed a cat|walk a dog|grow herbs|keep warm|keep cool|stay healthy|speak clearly|
thank a teacher|greet a guest|set a table|sweep a floor|light a candle safely|cross a busy road"""


def phrases(text: str) -> list[str]:
    """Entries of a list whose members may hold spaces."""
    return [" ".join(part.split()) for part in text.replace("\n", " ").split("|") if part.strip()]


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def story(rng: random.Random) -> str:
    who = rng.choice((rng.choice(ANIMALS), rng.choice(phrases(PEOPLE))))
    name, place, event = rng.choice(NAMES), rng.choice(PLACES), rng.choice(phrases(EVENTS))
    thing, feeling, verb = rng.choice(THINGS), rng.choice(FEELINGS), rng.choice(VERBS)
    return rng.choice(
        (
            f"Write a short story in simple words about {article(who)} called {name} and {article(thing)}.",
            f"Tell me a short story about {event} in {article(place)}. Use simple words.",
            f"Write a short story for children about {article(feeling)} {who} called {name}.",
            f"Tell a short story with the words {thing}, {verb} and {feeling}.",
            f"Write a short story that happens in {article(place)}. It is about {name} and {event}.",
            f"Tell me a story about {name}, who wants to {rng.choice(WISHES)} but is {feeling}.",
        )
    )


def explanation(rng: random.Random) -> str:
    topic = rng.choice(phrases(TOPICS))
    return rng.choice(
        (
            f"Explain {topic} to a child in a few sentences.",
            f"In simple words, tell me about {topic}.",
            f"Write a short paragraph about {topic}.",
            f"What should everybody know about {topic}? Answer in three sentences.",
            f"Why does {topic} matter? Explain briefly.",
        )
    )


def question(rng: random.Random) -> str:
    thing, animal, place, feeling = (rng.choice(words) for words in (THINGS, ANIMALS, PLACES, FEELINGS))
    asked = rng.choice(
        (
            f"What is {article(thing)} used for?",
            f"What does {article(animal)} eat?",
            f"Where does {article(animal)} live?",
            f"What can you find in {article(place)}?",
            f"What is the capital of {rng.choice(COUNTRIES)}?",
            f"What does the word {feeling} mean?",
            f"How do I {rng.choice(phrases(TASKS))}?",
            f"What is {article(thing)} made of?",
            f"How is {article(animal)} different from {article(rng.choice(ANIMALS))}?",
            f"Can you write a sentence with the words {thing} and {feeling}?",
            f"What should I do when I feel {feeling}?",
            f"Who works in {article(place)}?",
            f"Give me three words that go with {thing}.",
            f"What do people do at {article(place)}?",
            f"What do you know about {rng.choice(phrases(TOPICS))}?",
        )
    )
    return f"{asked} Answer in one sentence."


def opening(rng: random.Random) -> str:
    animal, name, place = rng.choice(ANIMALS), rng.choice(NAMES), rng.choice(PLACES)
    thing, feeling = rng.choice(THINGS), rng.choice(FEELINGS)
    return rng.choice(
        (
            f"{name} was {article(feeling)} {animal}.",
            f"One day, {name} found {article(thing)} in the {place}.",
            f"{name} had {article(thing)}.",
            f"There was once {article(animal)} who lived near {article(place)}.",
            f"In {article(place)}, {name} met {article(animal)}.",
            f"{name} and {rng.choice(NAMES)} went to the {place}.",
            f'"I am {feeling}," said {name}.',
            f"One morning, {name} woke up and felt {feeling}.",
            f"{name} wanted to {rng.choice(WISHES)}.",
            f"It was a cold day, and the {animal} was {feeling}.",
        )
    )


KINDS: dict[str, Callable[[random.Random], str]] = {
    "stories": story,
    "explanations": explanation,
    "questions": question,
    "openings": opening,
}
MOST_TOKENS = {"stories": 220, "explanations": 140, "questions": 60, "openings": 240}


def main(kind: str, count: int) -> None:
    """Writes `count` prompts, each once, as JSON lines with their number, which is also the seed of the answer."""
    seen: set[str] = set()
    number = 0
    while len(seen) < count:
        prompt = KINDS[kind](random.Random(f"{kind} {number}"))
        if prompt not in seen:
            seen.add(prompt)
            asked = prompt if kind == "openings" else [{"role": "user", "content": prompt}]
            row = {"id": f"{kind}-{number}", "prompt": asked, "seed": number, "max_tokens": MOST_TOKENS[kind]}
            print(json.dumps(row, ensure_ascii=False))
        number += 1
        if number > 100 * count:
            sys.exit(f"Only {len(seen)} different prompts of this kind can be made; ask for fewer.")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in KINDS or not sys.argv[2].isdigit():
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]))
