"""Options of CompRess with a queue for each network."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.baselines.compress_1q import CompRessConfig


class CompRess2qConfig(CompRessConfig):
    """CompRess with two queues: each network is compared with its own."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.compress_2q:CompRess2q"
    queues: ClassVar[int] = 2

    name: Literal["compress_2q"] = "compress_2q"
    head: Literal["none", "linear", "mlp4"] = Field("none", description="on the student; mlp4 is SimReg's")
