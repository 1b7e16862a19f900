"""Options of CompRess with a queue for each network."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from raydistill.options.baselines.compress_1q import CompRessConfig
from raydistill.options.momentum import Momentum, MomentumWindow


class CompRess2qConfig(CompRessConfig):
    """CompRess with two queues: each network is compared with its own."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.compress_2q:CompRess2q"
    queues: ClassVar[int] = 2

    name: Literal["compress_2q"] = "compress_2q"
    momentum_window: MomentumWindow = None
    head: Literal["none", "linear", "mlp4"] = Field("none", description="on the student; mlp4 is SimReg's")

    def ema(self) -> Momentum | None:
        if self.student_momentum is None:
            return None
        return Momentum("student_momentum", self.student_momentum, self.momentum_window)

    def follows_length(self) -> bool:
        return self.student_momentum is not None and self.momentum_window is not None
