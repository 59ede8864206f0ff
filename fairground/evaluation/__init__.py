"""Ranking models on suites of tasks: what is asked, how it is measured, and what may be concluded.

suite = load_suite("house")
run = rank([Entrant("uniform", UniformGuesser)], suite)
print(*sentences(run.leaderboard), sep="\\n")
write_run(run, "out")
"""

from fairground.evaluation.baseline import UniformGuesser
from fairground.evaluation.files import leaderboard_text, write_run
from fairground.evaluation.progress import Progress
from fairground.evaluation.runner import Entrant, Run, rank
from fairground.evaluation.sentences import sentences
from fairground.evaluation.suite import Suite, built_in_suites, load_suite

__all__ = [
    "Entrant",
    "Progress",
    "Run",
    "Suite",
    "UniformGuesser",
    "built_in_suites",
    "leaderboard_text",
    "load_suite",
    "rank",
    "sentences",
    "write_run",
]
