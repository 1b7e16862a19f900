from dataclasses import dataclass
@dataclass
class R: val: float; test: float|None; best_epoch:int
def linear_probe(*a,**k): return R(0.,0.,0)
