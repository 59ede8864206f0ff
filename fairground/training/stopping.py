"""Early stopping: the best weights so far, kept beside the checkpoints (Prechelt, 1998, "Early Stopping")."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fairground.training.checkpoint import KEPT, load_checkpoint, save_checkpoint
from fairground.training.optimiser import Masters


class Best:
    """Which measure was the best, by the history of measures that the loop keeps; fewer bits are better.

    A measure of a resumed run comes again with the same bits, so the file is the same whether it was cut short or not.
    """

    def __init__(self, folder: Path, patience: int, history: Mapping[int, float], *, writes: bool = True) -> None:
        """`patience` 0: nothing is kept and nothing stops. Of several processes, one `writes`."""
        self._folder, self._patience, self._history, self._writes = folder, patience, history, writes

    @property
    def step(self) -> int | None:
        """The step of the best measure, the first of equals; None without patience."""
        if not self._patience or not self._history:
            return None
        return min(sorted(self._history), key=lambda at: self._history[at])

    @property
    def passed(self) -> bool:
        """Whether so many measures as patience says came after the best one."""
        best = self.step
        return best is not None and sum(at > best for at in self._history) >= self._patience

    def measured(self, at: int, masters: Masters) -> None:
        """Keeps the weights if the measure of step `at` is the best. Raises TrainingError where the disk is full."""
        if self.step == at:
            weights = masters.weights_by_name()
            if self._writes:
                save_checkpoint(self._folder, at, weights, {"step": at}, kind=KEPT)

    def take(self, masters: Masters) -> bool:
        """Gives the weights of the best measure back, if something came after it. Raises TrainingError without them."""
        best = self.step
        if best is None or best == max(self._history):
            return False
        tensors, _ = load_checkpoint(self._folder / f"{KEPT}-{best}.safetensors")
        masters.take(tensors)
        return True
