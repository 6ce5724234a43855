"""Intra-Batch Connections: trains the encoder with a classifier and with a network over the whole batch."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.errors import InputError, check_choice, check_range
from pyg_bgformer.geometry import Geometry, Sphere
from pyg_bgformer.graph import Similarity, intra_batch_graph
from pyg_bgformer.losses import LabelSmoothedCrossEntropyLoss
from pyg_bgformer.methods.method import METHODS, KReciprocalRefinement, Method, ParameterGroup
from pyg_bgformer.nn.models.intra_batch import IntraBatchNetwork
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.ranges import NonNegativeFloat, PositiveInt, Probability


@METHODS.register("intra_batch")
class IntraBatch(Method):
    r"""A method that classifies each sample twice: alone, and after attention among the samples of its batch.

    It is from the `"Learning Intra-Batch Connections for Deep Metric Learning"
    <https://arxiv.org/abs/2102.07753>`_ paper. With outputs :math:`f` of the encoder's head, the loss is
    :math:`\ell(\textrm{classifier}(f)) + w \, \ell(\textrm{network}(f / \Vert f \Vert))`. Gradients of both terms
    reach the encoder. The defaults are the authors' settings for CUB-200-2011.

    Args:
        encoder (Encoder): See :class:`Method`.
        loss (LabelSmoothedCrossEntropyLoss): The loss :math:`\ell`, with the classifier of :math:`f`.
        geometry (Sphere): See :class:`Method`.
        num_classes (int): See :class:`Method`.
        network_weight (float): Weight of the network's loss, at least 0. (default: :obj:`1.`)
        network_lr (float, optional): Learning rate of the network. :obj:`None` takes that of the recipe.
            (default: :obj:`None`)
        weighted (bool): Multiply attention weights by the similarity of the two samples. (default: :obj:`False`)
        similarity (str): Similarity of two samples, ``"correlation"`` or ``"cosine"``. It has an effect only with
            ``weighted`` or ``threshold``. (default: ``"correlation"``)
        threshold (float, optional): Samples attend to samples with a similarity above it. :obj:`None` lets all
            samples attend to all. (default: :obj:`None`)
        num_layers (int): Number of layers of the network. (default: :obj:`1`)
        heads (int): Number of attention heads. They must divide the size of the embeddings. (default: :obj:`2`)
        cat (bool): Classify the concatenated outputs of all layers instead of those of the last layer.
            (default: :obj:`False`)
        margin (bool): Add a logit fixed at 0 to the softmax, so that samples can attend to nothing.
            (default: :obj:`True`)
        attention_dropout (float): Probability of dropping an attention weight, in [0, 1). (default: :obj:`0.1`)
        dropout (float): Probability of dropping outputs of attention and feed-forward network, in [0, 1).
            (default: :obj:`0.1`)
        mlp_dropout (float): Probability of dropping hidden units of the feed-forward network, in [0, 1).
            (default: :obj:`0.1`)
        refinement (str): With ``"k_reciprocal"`` the evaluation also scores test images that the network refines
            together with similar ones; see :meth:`refine_batches`. (default: ``"none"``)
        refinement_k (int): Number of nearest neighbours among which reciprocal ones are looked for.
            (default: :obj:`30`)
        refinement_batch (int): Number of test images that are refined together, from 2 to ``refinement_k + 1``.
            (default: :obj:`7`)

    Raises:
        InputError: If an option is out of its range, or the loss or the geometry is another one.
    """

    loss: LabelSmoothedCrossEntropyLoss

    def __init__(
        self,
        encoder: Encoder,
        loss: nn.Module,
        geometry: Geometry,
        num_classes: int,
        *,
        network_weight: NonNegativeFloat = 1.0,
        network_lr: NonNegativeFloat | None = None,
        weighted: bool = False,
        similarity: Literal["correlation", "cosine"] = "correlation",
        threshold: float | None = None,
        num_layers: PositiveInt = 1,
        heads: PositiveInt = 2,
        cat: bool = False,
        margin: bool = True,
        attention_dropout: Probability = 0.1,
        dropout: Probability = 0.1,
        mlp_dropout: Probability = 0.1,
        refinement: Literal["none", "k_reciprocal"] = "none",
        refinement_k: PositiveInt = 30,
        refinement_batch: PositiveInt = 7,
    ) -> None:
        super().__init__(encoder, loss, geometry, num_classes)
        if not isinstance(loss, LabelSmoothedCrossEntropyLoss):
            found = type(loss).__name__
            raise InputError(f"intra_batch classifies: use loss label_smoothed_cross_entropy, found {found}")
        if not isinstance(geometry, Sphere):
            raise InputError(f"intra_batch embeds on the sphere: use geometry sphere, found {geometry}")
        check_range("network_weight", network_weight, at_least=0)
        check_choice("similarity", similarity, ("correlation", "cosine"))
        check_choice("refinement", refinement, ("none", "k_reciprocal"))
        check_range("refinement_batch", refinement_batch, at_least=2, at_most=refinement_k + 1)
        if refinement == "k_reciprocal":
            self.test_refinement = KReciprocalRefinement(refinement_k, refinement_batch)
        self.network_weight = network_weight
        self.network_lr = network_lr
        self.weighted = weighted
        self.similarity: Similarity = similarity
        self.threshold = threshold
        self.network = IntraBatchNetwork(
            encoder.embedding_dim,
            num_classes,
            num_layers,
            heads,
            cat=cat,
            margin=margin,
            attention_dropout=attention_dropout,
            dropout=dropout,
            mlp_dropout=mlp_dropout,
        )

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the ``loss`` and its terms ``plain`` and ``network``."""
        outputs = self.encoder.head(features)
        embeddings = self.geometry.project(outputs)
        out = self.network(embeddings, *self._graph(embeddings))
        plain = self.loss(outputs, labels)
        network = self.loss.of_logits(out.logits, labels)
        return {"loss": plain + self.network_weight * network, "plain": plain, "network": network}

    def edges(self, features: Tensor, labels: Tensor) -> Edges:
        """Returns the edges and attention weights of each layer: ``layers.0.attention`` and so on.

        The attention weights are those before the multiplication by similarities.
        """
        embeddings = self.geometry.project(self.encoder.head(features))
        _, edges = self.network(embeddings, *self._graph(embeddings), return_attention_weights=True)
        return edges

    def refine_batches(self, embeddings: Tensor) -> Tensor:
        """Returns the normalised outputs ``(G, D)`` of the network's last layer for the first image of each batch.

        Args:
            embeddings: ``(G, n, D)``: for each of G images its own embedding, then those of its neighbours.
        """
        edge_index, edge_weight = self._graph(embeddings)
        nodes = embeddings if edge_index is None else embeddings.flatten(0, 1)
        outputs = self.network(nodes, edge_index, edge_weight).hidden[-1]
        return F.normalize(outputs.view(*embeddings.shape[:2], -1)[:, 0], dim=1)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns the groups of :class:`Method` and the group ``network``."""
        network: ParameterGroup = {"name": "network", "params": list(self.network.parameters())}
        if self.network_lr is not None:
            network["lr"] = self.network_lr
        return [*super().parameter_groups(), network]

    def _graph(self, embeddings: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Returns the edges, ``None`` for all pairs, and their weights, ``None`` for weights of 1."""
        if self.threshold is None and not self.weighted:
            return None, None
        edge_index, edge_weight = intra_batch_graph(embeddings, self.similarity, self.threshold)
        return edge_index, edge_weight if self.weighted else None
