"""PyTorch's side: the same work in idiomatic PyTorch, in several ways of which the fastest counts."""

import time
from typing import Any, NamedTuple
import warnings

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import measure, torch_unet, torch_vae, works
from benchmarks.torch_layers import load

warnings.filterwarnings('ignore', message='dynamo_pgo force disabled')  # side.py disables it on purpose.


class Candidate(NamedTuple):
    """A way to run PyTorch.

    Attributes:
        channels_last: whether images have this memory format.
        fused: whether to use the fused optimizer and, on a GPU, TF32 and cuDNN's benchmark mode.
        compile: None, or the `mode` of `torch.compile`.
    """

    channels_last: bool = False
    fused: bool = False
    compile: str | None = None


CANDIDATES = {
    'eager': Candidate(),
    'channels_last': Candidate(channels_last=True, fused=True),
    'compile': Candidate(fused=True, compile='default'),
    'compile_channels_last': Candidate(channels_last=True, fused=True, compile='default'),
}
# CUDA graphs, which help where a step does little work.
CUDA_CANDIDATES = {'compile_graphs': Candidate(channels_last=True, fused=True, compile='reduce-overhead')}


class Device:
    """The device of PyTorch."""

    def describe(self) -> dict[str, Any]:
        return {
            'backend': device().type,
            'torch': torch.__version__,
            'candidates': [*CANDIDATES, *(CUDA_CANDIDATES if device().type == 'cuda' else ())],
        }

    def ceiling(self, dtype: str) -> float:
        """GFLOP/s of a large matrix product."""
        torch.set_float32_matmul_precision('high')
        size = measure.CEILING_SIZES[device().type]
        matrix = torch.randn((size, size), dtype=getattr(torch, dtype), device=device())
        return measure.ceiling(lambda: (torch.matmul(matrix, matrix), wait()), size)


class Theirs:
    """Trains and evaluates one work in PyTorch."""

    def __init__(self, work: works.Work, name: str):
        self.work, self.way = work, (CANDIDATES | CUDA_CANDIDATES)[name]
        self.device = device()
        self.format = torch.channels_last if self.way.channels_last else torch.contiguous_format
        if self.way.fused:
            torch.set_float32_matmul_precision('high')
            torch.backends.cudnn.benchmark = True
        module = torch_vae if work.classifier else torch_unet
        self.objective = module.Objective(work)
        self.batch_size = work.config.batch_size

    def load(self, reference) -> None:
        """Copies the weights and the examples, and creates the optimizer."""
        objective, options = self.objective, self.work.config.optimizer
        inputs = objective.example_inputs(self.work.config.data.image_size)
        load(objective.network, reference.layers, reference.others, inputs)
        if self.work.classifier:
            load(objective.classifier, reference.classifier, {}, inputs[:1])
        objective.to(self.device, memory_format=self.format).train()
        self.arrays = {name: self.tensor(value) for name, value in reference.arrays.items()}
        parameters = [*objective.network.parameters()]
        groups = [
            {'params': [p for p in parameters if p.ndim > 1], 'weight_decay': options.weight_decay},
            {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, fused=self.way.fused or None)
        self.average = [value.detach().clone() for value in self.averaged()]
        self.compiled = torch.compile(objective, mode=self.way.compile) if self.way.compile else objective

    def tensor(self, value) -> torch.Tensor:
        """A tensor of one of our arrays: images become `[B, C, H, W]`, labels int64."""
        tensor = torch.tensor(value, device=self.device)
        if tensor.ndim == 4:
            return tensor.movedim(-1, 1).contiguous(memory_format=self.format)
        return tensor.long() if tensor.dtype == torch.int32 else tensor

    def first_step(self, reference) -> tuple[float, float, float]:
        """Loss and gradient norm of the first step on our batch, and seconds with compilation."""
        batch, start = self.batch(reference), time.perf_counter()
        loss, grad_norm = (value.item() for value in self.step(batch))
        return loss, grad_norm, time.perf_counter() - start

    def batch(self, reference) -> dict[str, torch.Tensor]:
        """The batch of our first step."""
        return {name: self.tensor(value) for name, value in reference.batch.items() if name != 'index'}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        batch = batch | {'image': batch['image'].contiguous(memory_format=self.format)}
        enabled = self.work.config.dtype == 'bfloat16'
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            return self.compiled(**batch)[0]

    def step(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """One training step; returns the loss, and the norm of the gradient before clipping."""
        self.optimizer.zero_grad()
        loss = self.forward(batch)
        loss.backward()
        network = self.objective.network
        norm = nn.utils.clip_grad_norm_(network.parameters(), self.work.config.optimizer.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.averaged(), 1 - self.work.config.optimizer.ema_decay)
        return loss.detach(), norm

    def averaged(self) -> list[torch.Tensor]:
        """The tensors of the moving average. `AveragedModel` is not used: it waits for a GPU at each step."""
        return [*self.objective.network.parameters(), *self.objective.network.buffers()]

    def next_batch(self) -> dict[str, torch.Tensor]:
        """A batch of random examples."""
        index = torch.randint(len(self.arrays['image']), (self.batch_size,), device=self.device)
        return self.objective.draw({name: array[index] for name, array in self.arrays.items()})

    def train_step(self) -> None:
        self.step(self.next_batch())

    @torch.inference_mode()
    def eval_step(self) -> None:
        self.forward(self.next_batch())

    def speed(self, mode: str, seconds: float) -> float:
        """Images per second in mode 'train' or 'eval'."""
        self.objective.train(mode == 'train')
        step = self.train_step if mode == 'train' else self.eval_step
        return measure.speed(step, wait, self.batch_size, seconds)

    def gflop(self, mode: str) -> float:
        """Additions and multiplications in matrix products and convolutions per image, in 10⁹."""
        self.objective.train(mode == 'train')
        with FlopCounterMode(display=False) as counter:
            self.train_step() if mode == 'train' else self.eval_step()
        return counter.get_total_flops() / self.batch_size / 1e9

    def peak_memory(self) -> float:
        """Peak memory in MiB: that of the device on CUDA, else that of the process."""
        return torch.cuda.max_memory_allocated() / 2**20 if self.device.type == 'cuda' else measure.peak_memory()


def device() -> torch.device:
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def wait() -> None:
    """Returns when the device has done all dispatched work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
