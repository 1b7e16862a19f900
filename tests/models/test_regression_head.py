"""SimReg's head: its widths, its layers, and its first layers."""

import pytest
from helpers.references import widths
from torch import nn

from raydistill.models.regression_head import first_layers, regression_head


def letters(head):
    return "".join({nn.Linear: "L", nn.BatchNorm1d: "B", nn.ReLU: "R"}[type(layer)] for layer in head)


class TestHead:
    @pytest.mark.parametrize(
        ("depth", "expected"),
        [(1, [8, 5]), (2, [8, 16, 5]), (4, [8, 16, 8, 16, 5]), (6, [8, 16, 8, 16, 8, 16, 5])],
    )
    def test_widths_alternate(self, depth, expected):
        assert widths(regression_head(8, 5, depth=depth)) == expected

    def test_width_multiplies_the_odd_hidden_layers(self):
        assert widths(regression_head(8, 5, width=0.5)) == [8, 4, 8, 4, 5]
        assert widths(regression_head(2, 5, width=0.1)) == [2, 1, 2, 1, 5]

    def test_all_hidden_layers_as_wide_as_the_output(self):
        assert widths(regression_head(8, 5, hidden="output")) == [8, 5, 5, 5, 5]

    @pytest.mark.parametrize(
        ("depth", "pattern", "expected"),
        [
            (1, "all_hidden", "L"),
            (2, "all_hidden", "LBRL"),
            (4, "all_hidden", "LBRLBRLBRL"),
            (2, "every_other", "LBRL"),
            (4, "every_other", "LBRLLBRL"),
            (3, "every_other", "LBRLL"),
        ],
    )
    def test_batch_norm_and_relu(self, depth, pattern, expected):
        assert letters(regression_head(8, 5, depth=depth, bn_relu=pattern)) == expected

    @pytest.mark.parametrize(("count", "expected"), [(1, "LBR"), (2, "LBRL"), (3, "LBRLLBR"), (4, "LBRLLBRL")])
    def test_first_layers_take_along_what_follows_them(self, count, expected):
        head = regression_head(8, 5, bn_relu="every_other")
        assert letters(first_layers(head, count)) == expected
        assert first_layers(head, count)[0] is head[0]

    def test_more_layers_than_there_are(self):
        with pytest.raises(ValueError, match="5 layers of a head with 4"):
            first_layers(regression_head(8, 5), 5)
