"""Names the settings that the scores of a table depend on."""

import pandas as pd


def statement(runs: pd.DataFrame) -> str:
    """Returns one line with the settings that the scores of a table depend on: data, protocol, epochs and so on.

    If runs differ in a setting, the line has all its values.

    Args:
        runs: Runs from :func:`~pyg_bgformer.report.collect.collect`.
    """
    copies = runs["dataset"] + runs["partial"].map({True: " (partial copy)", False: " (whole)"})
    copies += runs["cropped"].map({True: ", images cut to annotated boxes", False: ""})
    values = {
        "Data": copies,
        "protocol": runs["protocol"],
        "epochs": runs["epochs"],
        "seeds": runs["seed"],
        "weights": runs["weights"],
        "embedding dimension": runs["embedding_dim"],
        "image size": runs["image_size"].astype(str) + " px",
        "device": runs["device"],
        "commit": runs["commit"].fillna("unknown").str.replace(r"^(\w{12})\w*", r"\1", regex=True),
    }
    if "tuning" in runs:
        values["tuning"] = runs["tuning"]
    parts = [f"{name}: {', '.join(map(str, column.drop_duplicates()))}" for name, column in values.items()]
    embedding = runs[runs["feature"] == "embedding"]
    last, chosen = (
        embedding[embedding["encoder"] == encoder].groupby("row", sort=False)["recall_at_1"].mean()
        for encoder in ("last", "trained")
    )
    if len(last):  # the protocol chose epochs on the test images
        gaps = ", ".join(f"{row} {gap:+.1f}" for row, gap in (100 * (chosen[last.index] - last)).items())
        parts.append(
            "epochs chosen on the test images, mean gap to the last epochs in Recall@1 of the embedding: "
            + gaps
        )
    return "; ".join(parts)
