"""Intra-Batch Connections: the encoder trained by a classifier, and by a network over the whole batch."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.errors import check_choice
from pyg_bgformer.geometry import Geometry, Sphere
from pyg_bgformer.graph import Similarity, intra_batch_graph
from pyg_bgformer.losses import LabelSmoothedCrossEntropyLoss
from pyg_bgformer.methods.method import METHODS, KReciprocalRefinement, Method, ParameterGroup
from pyg_bgformer.nn.models.intra_batch import IntraBatchNetwork
from pyg_bgformer.nn.ops import Edges


@METHODS.register("intra_batch")
class IntraBatch(Method):
    r"""Classifies each sample by itself, and once more after the samples of its batch have attended to each other.

    With outputs :math:`f` of the encoder's head, the loss is
    :math:`\ell(\textrm{classifier}(f)) + w \, \ell(\textrm{network}(f / \Vert f \Vert))`; gradients of both terms
    reach the encoder. From the `"Learning Intra-Batch Connections for Deep Metric Learning"
    <https://arxiv.org/abs/2102.07753>`_ paper; options have the values of its CUB-200-2011 experiments.

    Args:
        encoder (Encoder): See :class:`Method`.
        loss (LabelSmoothedCrossEntropyLoss): Has the classifier of :math:`f`.
        geometry (Sphere): See :class:`Method`.
        num_classes (int): See :class:`Method`.
        network_weight (float): :math:`w`. (default: :obj:`1.`)
        network_lr (float, optional): Learning rate of the network, where it is not the encoder's.
        weighted (bool): Weigh the attention by how alike two samples are. (default: :obj:`False`)
        similarity, threshold: See :func:`~pyg_bgformer.graph.intra_batch_graph`. Without a threshold all samples
            attend to all.
        num_layers, heads, cat: See :class:`~pyg_bgformer.nn.IntraBatchNetwork`.
        margin, attention_dropout, dropout, mlp_dropout: See :class:`~pyg_bgformer.nn.IntraBatchLayer`.
        refinement (str): With ``"k_reciprocal"`` the evaluation also scores features that the network refines in
            batches of similar test images; see :meth:`refine_batches`. (default: ``"none"``)
        refinement_k, refinement_batch (int): ``k`` and ``batch`` of
            :func:`~pyg_bgformer.evaluation.k_reciprocal_batches`. (default: :obj:`30`, :obj:`7`)

    Raises:
        ValueError: If an option is out of its range, or the loss or the geometry is another.
    """

    loss: LabelSmoothedCrossEntropyLoss

    def __init__(
        self,
        encoder: Encoder,
        loss: nn.Module,
        geometry: Geometry,
        num_classes: int,
        *,
        network_weight: float = 1.0,
        network_lr: float | None = None,
        weighted: bool = False,
        similarity: Similarity = "correlation",
        threshold: float | None = None,
        num_layers: int = 1,
        heads: int = 2,
        cat: bool = False,
        margin: bool = True,
        attention_dropout: float = 0.1,
        dropout: float = 0.1,
        mlp_dropout: float = 0.1,
        refinement: Literal["none", "k_reciprocal"] = "none",
        refinement_k: int = 30,
        refinement_batch: int = 7,
    ) -> None:
        super().__init__(encoder, loss, geometry, num_classes)
        if not isinstance(loss, LabelSmoothedCrossEntropyLoss):
            found = type(loss).__name__
            raise ValueError(f"intra_batch classifies: use loss label_smoothed_cross_entropy, found {found}")
        if not isinstance(geometry, Sphere):
            raise ValueError(f"intra_batch embeds on the sphere: use geometry sphere, found {geometry}")
        if network_weight < 0:
            raise ValueError(f"network_weight must not be negative, found {network_weight}")
        check_choice("similarity", similarity, ("correlation", "cosine"))
        if refinement not in ("none", "k_reciprocal"):
            raise ValueError(f"refinement must be 'none' or 'k_reciprocal', found {refinement!r}")
        if not 2 <= refinement_batch <= refinement_k + 1:
            raise ValueError(f"refinement_batch must lie in [2, refinement_k + 1], found {refinement_batch}")
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
        """Returns ``loss`` and its terms ``plain`` and ``network``."""
        outputs = self.encoder.head(features)
        embeddings = self.geometry.project(outputs)
        out = self.network(embeddings, *self._graph(embeddings))
        plain = self.loss(outputs, labels)
        network = self.loss.of_logits(out.logits, labels)
        return {"loss": plain + self.network_weight * network, "plain": plain, "network": network}

    def edges(self, features: Tensor, labels: Tensor) -> Edges:
        """Returns the attention of each layer, before it is weighed: ``layers.0.attention`` and so on."""
        embeddings = self.geometry.project(self.encoder.head(features))
        _, edges = self.network(embeddings, *self._graph(embeddings), return_attention_weights=True)
        return edges

    def refine_batches(self, embeddings: Tensor) -> Tensor:
        """Returns the unit outputs ``(G, D)`` of the network's last layer for the first image of each batch.

        Args:
            embeddings: ``(G, n, D)``: an image and its neighbours, for each of G images.
        """
        edge_index, edge_weight = self._graph(embeddings)
        nodes = embeddings if edge_index is None else embeddings.flatten(0, 1)
        outputs = self.network(nodes, edge_index, edge_weight).hidden[-1]
        return F.normalize(outputs.view(*embeddings.shape[:2], -1)[:, 0], dim=1)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns the groups of :class:`Method`, and ``network``."""
        network: ParameterGroup = {"name": "network", "params": list(self.network.parameters())}
        if self.network_lr is not None:
            network["lr"] = self.network_lr
        return [*super().parameter_groups(), network]

    def _graph(self, embeddings: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Edges and their weights; ``None`` for all edges, and for weights of 1."""
        if self.threshold is None and not self.weighted:
            return None, None
        edge_index, edge_weight = intra_batch_graph(embeddings, self.similarity, self.threshold)
        return edge_index, edge_weight if self.weighted else None
