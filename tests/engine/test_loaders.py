from dataclasses import replace

import pytest
import torch

from pyg_bgformer.data.cuts import Cuts
from pyg_bgformer.engine.loaders import build_train_loader
from pyg_bgformer.engine.processes import Processes
from pyg_bgformer.errors import InputError
from tests.training import Training


def on_device(config, **data):
    return replace(config, data=replace(config.data, augment_on="device", **data))


def images_of(parts, processes, device="cpu"):
    """All images of the first epoch that processes load, as the encoder sees them."""
    encoder = parts.method.encoder
    loader = build_train_loader(
        parts.config.data,
        parts.config.seed,
        parts.dataset,
        encoder,
        parts.sampler,
        None,
        device=torch.device(device),
        processes=processes,
    )
    parts.sampler.start_at(0, 0)
    batches = [images for images, _, _ in loader]
    if isinstance(batches[0], Cuts):
        batches = [encoder.normalised(cuts.images(encoder.normalised)) for cuts in batches]
    return batches


def test_the_device_and_any_number_of_processes_see_the_images_of_the_workers(tiny, tmp_path):
    tiny = replace(tiny, data=replace(tiny.data, random_erasing=0.5, image_noise=0.3))
    expected = images_of(Training(tiny, tmp_path).parts, Processes())
    parts = Training(on_device(tiny), tmp_path).parts
    parallel = zip(*(images_of(parts, Processes(rank, 3)) for rank in range(3)), strict=True)
    assert len(expected) == 3
    for images, alone, shared in zip(expected, images_of(parts, Processes()), parallel, strict=True):
        assert torch.equal(alone, images)
        assert torch.equal(torch.cat(shared), images)


@pytest.mark.parametrize("chunk", [None, 8])
def test_training_on_images_of_the_device_gives_the_weights_of_training_on_those_of_the_workers(
    tiny, tmp_path, chunk
):
    tiny = replace(tiny, encoder=tiny.encoder.changed(frozen_batchnorm=True))
    tiny = replace(tiny, train=replace(tiny.train, encode_chunk=chunk, optimizer="sgd"))
    weights = [
        Training(config, tmp_path).fit().method.state_dict()
        for config in (tiny, on_device(tiny, cache=str(tmp_path)))
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-5, msg=name)


def test_a_frozen_encoder_has_no_augmentation_on_the_device(tiny):
    with pytest.raises(InputError, match=r"^data\.augment_on: found device, .* frozen encoder.*workers"):
        replace(on_device(tiny), encoder=tiny.encoder.changed(frozen=True))


def test_mps_is_refused(tiny, tmp_path):
    parts = Training(on_device(tiny), tmp_path).parts
    with pytest.raises(InputError, match=r"^data\.augment_on: device works on cuda and cpu, found mps"):
        images_of(parts, Processes(), "mps")
