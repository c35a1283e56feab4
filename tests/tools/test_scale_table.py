from __future__ import annotations

from tools.scale_table import scale


def _row(model: str, side: str, encoder: str, prompt: str) -> dict[str, str]:
    return {"model": model, "side": side, "encoder_s": encoder, "prompt_s": prompt, "threads": "2"}


def test_both_models_are_counted_on_one_core() -> None:
    rows = [
        _row("SAM-B", "dense", "10", "0.05"),
        _row("SAM-B", "bhk exact", "5", "0.1"),
        _row("SAM-B", "bhk int8", "1", "0.1"),
        _row("Other", "dense", "1", "0.1"),
        _row("Other", "bhk exact", "", ""),  # failed
    ]
    _, _, line = scale(rows)
    fidelity, accuracy = 2 * (15 + 64 * 0.15), 2 * (15 + 100 * 0.15)
    cells = [cell.strip() for cell in line.strip("| ").split("|")]
    assert cells == ["SAM-B", f"{fidelity:.0f}", f"{accuracy:.0f}", f"{accuracy * 10_000 / 3600:.0f}", "21"]
