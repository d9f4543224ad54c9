"""Cost of a run in device hours and money, by one formula for an estimate and for a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.parsed import JsonObject

if TYPE_CHECKING:
    from train.capacity.options import Option
    from train.config import TrainConfig


@dataclass(frozen=True)
class Cost:
    """Seconds of all devices together: a device is a worker's GPU, or where there is none its CPU ``threads``.

    ``step_s`` are those of optimiser steps; the rest of ``device_s`` goes into loading, starting and evaluations. A
    plan knows steps alone. ``price`` is that of a device for an hour, in any currency.
    """

    device_s: float
    step_s: float
    audio_s: float
    gpu: bool
    threads: int = 1
    price: float | None = None

    @property
    def device_hours(self) -> float:
        """Hours that devices are held: what is paid for."""
        return self.device_s / 3600

    @property
    def audio_per_device(self) -> float:
        """Hours of speech that are trained on in an hour of a device."""
        return self.audio_s / self.device_s if self.device_s else 0.0

    @property
    def money(self) -> float | None:
        """The price of all, or None where no price is known."""
        return None if self.price is None else self.device_hours * self.price

    def summary(self) -> JsonObject:
        """Return the figures, ready for JSON and for a card."""
        hours = {} if self.gpu else {"core_hours": self.device_hours * self.threads}
        return {
            "devices": "GPU" if self.gpu else f"CPU worker of {self.threads} cores",
            "device_hours": self.device_hours,
            **hours,
            "device_hours_in_steps": self.step_s / 3600,
            "audio_hours_per_device_hour": self.audio_per_device,
            "price_per_device_hour": self.price,
            "cost": self.money,
        }


def spent(config: TrainConfig, totals: JsonObject) -> Cost:
    """Return what a run has taken by its last checkpoint, from the totals in that.

    Work that was lost between a checkpoint and a crash is not in it.
    """
    workers = config.workers
    # A run that began before devices were counted knows its seconds alone.
    held_s = float(totals.get("held_s") or totals["seconds"])
    device_s = float(totals.get("device_s") or held_s * workers.most)
    in_steps = min((totals["seconds"] - totals.get("evaluation_s", 0.0)) / held_s, 1.0) if held_s else 0.0
    price = workers.price_per_hour
    return Cost(device_s, device_s * in_steps, totals["audio_s"], workers.gpu, workers.threads, price)


def planned(option: Option, config: TrainConfig, price: float | None = None) -> Cost:
    """Return what a way of training will take; without a ``price``, that of the configuration holds."""
    setup, workers = option.setup, config.workers
    device_s = option.device_hours * 3600
    audio_s = option.steps * option.micro_batches_per_step * setup.batch.audio_s
    price = workers.price_per_hour if price is None else price
    return Cost(device_s, device_s, audio_s, setup.gpu, workers.threads, price)


def described(cost: JsonObject) -> str:
    """Return one line of what ``Cost.summary`` says."""
    gpu = cost["devices"] == "GPU"
    taken = f"{cost['device_hours']:.3f} GPU-hours" if gpu else f"{cost['core_hours']:.3f} core-hours"
    in_steps = cost["device_hours_in_steps"] / cost["device_hours"] if cost["device_hours"] else 0.0
    each = "GPU-hour" if gpu else "worker-hour"
    money = "" if cost["cost"] is None else f", cost {cost['cost']:.2f} at {cost['price_per_device_hour']:g} a {each}"
    speed = f"{cost['audio_hours_per_device_hour']:.1f} audio hours per {each}"
    return f"{taken}, {in_steps:.0%} of them in steps; {speed}{money}"
