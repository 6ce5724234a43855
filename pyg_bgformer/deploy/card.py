"""The page that describes a model on the Hugging Face hub: ``README.md`` beside its files."""

from typing import TYPE_CHECKING

from huggingface_hub import ModelCard, ModelCardData

if TYPE_CHECKING:
    from pyg_bgformer.deploy.embedding_model import EmbeddingModel

PAPERS = {
    "bgformer": (
        "Rethinking Batch Sample Relationships for Data Representation: A Batch-Graph Transformer based Approach",
        "https://arxiv.org/abs/2211.10622",
    ),
    "batchformer": (
        "BatchFormer: Learning to Explore Sample Relationships for Robust Representation Learning",
        "https://arxiv.org/abs/2203.01522",
    ),
    "dybgr": (
        "Learning Dynamic Batch-Graph Representation for Deep Representation Learning",
        "https://doi.org/10.1007/s11263-024-02175-8",
    ),
    "intra_batch": (
        "Learning Intra-Batch Connections for Deep Metric Learning",
        "https://arxiv.org/abs/2102.07753",
    ),
    "gca_hng": (
        "Globally Correlation-Aware Hard Negative Generation",
        "https://doi.org/10.1007/s11263-024-02288-0",
    ),
}
"""Title and address of the paper of each method."""

TEMPLATE = """---
{{ card_data }}
---

# Image embeddings: {{ encoder }}{% if dataset %} on {{ dataset }}{% endif %}

This model turns an image into {{ dim }} numbers. Images of the same kind get similar embeddings, even if the model
has not seen this kind. It is made for image search and for methods that work on vectors.

## Use

```python
from pyg_bgformer import EmbeddingModel

model = EmbeddingModel.from_pretrained("FOLDER OR NAME OF THIS MODEL")
embeddings = model.embed(["first.jpg", "second.jpg"])  # {{ space }}
print(model.similarity(embeddings, embeddings))
```

The model resizes images of any size to {{ resize }} pixels on the shorter side and takes the central square of
{{ image_size }} pixels. It also normalises images (mean {{ mean }}, standard deviation {{ std }}).

## Training

| | |
|---|---|
| network | {{ encoder }} |
| first weights | {{ weights }} |
{% for name, value in training.items() -%}
| {{ name | replace("_", " ") }} | {{ value }} |
{% endfor %}
{% if scores -%}
## Scores

Each image of the test set was compared with all others{% if training.protocol %} (protocol:
{{ training.protocol }}){% endif %}.

| score | percent |
|---|---:|
{% for name, value in scores.items() -%}
| {{ name | replace("_", " ") }} | {{ "undefined" if value is none else "%.1f" | format(100 * value) }} |
{% endfor %}
{%- endif %}
## Licence

{% if license == "unknown" -%}
No licence has been chosen. The images that the model was trained on and its first weights may restrict its use.
{%- else -%}
{{ license }}
{%- endif %}

## Citation

Trained with pyg_bgformer, batch-graph deep metric learning for PyTorch Geometric.
{%- if paper %}
The method is from "{{ paper[0] }}", {{ paper[1] }}.
{%- endif %}
"""


def model_card(model: "EmbeddingModel") -> ModelCard:
    """Returns the card of a model.

    Args:
        model: The model.
    """
    training = {name: " ".join(str(value).split()) for name, value in model.training_facts.items()}
    encoder = model.encoder
    card: ModelCard = ModelCard.from_template(
        ModelCardData(
            license=model.license,
            library_name="pyg-bgformer",
            pipeline_tag="image-feature-extraction",
            tags=["metric-learning", "image-retrieval"],
        ),
        template_str=TEMPLATE,
        encoder=encoder.spec.name,
        weights=encoder.weights_tag,
        dataset=training.get("dataset"),
        dim=model.dim,
        space=f"(2, {model.dim}): {model.geometry}",
        resize=model.resize,
        image_size=model.image_size,
        mean=", ".join(f"{value:g}" for value in encoder.mean),
        std=", ".join(f"{value:g}" for value in encoder.std),
        training=training,
        scores=model.scores,
        license=model.license,
        paper=PAPERS.get(training.get("method", "")),
    )
    return card
