"""Progress on a pipe."""

from common.platform.terminal.progress_lines import ProgressLines


def test_a_line_comes_every_two_seconds_with_what_is_left_and_none_for_what_is_quick() -> None:
    now = [0.0]
    lines: list[str] = []
    progress = ProgressLines("images", clock=lambda: now[0], write=lines.append)
    for done in range(11):
        progress(done, 20)
        now[0] += 0.5

    assert lines == ["images 4 of 20, 8 s left", "images 8 of 20, 6 s left"]
