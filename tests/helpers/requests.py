"""Trials on their way into a pack, without a sweep: their teachers and labels are decided as a sweep decides them."""

from raydistill import config as configuration
from raydistill.config import Config
from raydistill.data.sources import load_dataset
from raydistill.planning.resolve import resolve
from raydistill.training.messages import JoinRequest
from raydistill.trial_spec import TrialSpec


def decided(values):
    """The spec of a configuration, or of its nested values."""
    spec = TrialSpec(values if isinstance(values, Config) else configuration.load(values))
    return spec if spec.resolved else resolve(spec, load_dataset(spec.data))


def request(key, values, directory=None, last_delivered_epoch=None, seeds=1):
    """A trial with this configuration that wants to join."""
    return JoinRequest(key, decided(values), directory, last_delivered_epoch, seeds)
