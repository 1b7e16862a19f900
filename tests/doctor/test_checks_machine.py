"""What is said of the limits of a machine."""

import resource

from helpers.diagnosis import doctor_apart, planted, setup_in

from raydistill.doctor import checks_machine


def test_too_few_open_files(tmp_path):
    def low():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    chosen = "diagnostics.CHECKS = [each for each in diagnostics.CHECKS if each.name == 'open files']"
    code, findings = doctor_apart(tmp_path, chosen, before=low)
    assert code == 1
    planted(findings, "open files", "256 open files allowed", "ulimit -n")


def test_a_low_soft_limit_is_raised_by_ray(tmp_path, monkeypatch):
    for limits, status in (((256, 65536), "ok"), ((256, 5000), "warning"), ((256, 1024), "fault")):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        assert next(checks_machine.check_open_files(setup_in(tmp_path))).status == status
