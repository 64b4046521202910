"""Where a rotation of the root may be, as the control API shows it."""

from agent.control.api.rotation import CellRoots, RotationView
from agent.identity.rotation import Awaited, Step


def rotation_view(step: Step | None, *cells: str, passed_over: tuple[str, ...] = ()) -> RotationView:
    """A rotation from the root 00… to 11…, which waits for these cells."""
    old, new = "00" * 32, "11" * 32
    waiting, passed = (tuple(Awaited(each, "it is slow", "see there") for each in names) for names in (cells, passed_over))
    root, former = (None, ()) if step is None else (new, (old,))
    published = (new,) if step is Step.DONE else (old, new)
    return RotationView(step, root, former, waiting, passed, published, (CellRoots("one", True, (old, new), (old,)),))
