import pandas as pd

from pyg_bgformer.report.statement import statement


def test_it_names_all_that_scores_depend_on(runs):
    assert statement(runs) == (
        "Data: digits (whole), digits (partial copy); protocol: final; epochs: 3; seeds: 0, 1, 2; weights: random; "
        "embedding dimension: 64; image size: 28 px; device: cpu (x86_64); commit: 0123456789ab"
    )
    cut = runs.assign(cropped=True, partial=False, commit=None, tuning="20 trials x 2 folds")
    text = statement(cut)
    assert text.startswith("Data: digits (whole), images cut to annotated boxes; ")
    assert text.endswith("commit: unknown; tuning: 20 trials x 2 folds")


def test_epochs_that_were_chosen_on_the_test_have_their_gap_to_the_last_ones(runs):
    last = runs[runs["encoder"] == "trained"].assign(encoder="last")
    last["recall_at_1"] -= 0.05 * (last["row"] == "new")
    text = statement(pd.concat([runs, last]))
    gaps = "to the last epochs in Recall@1 of the embedding: plain +0.0, k=5_& +0.0, new +5.0"
    assert text.endswith(gaps)
