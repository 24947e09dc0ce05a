"""What `Practice` takes, and what it says to what it does not."""

import pytest

from harbor_nb.errors import BadInputError
from harbor_nb.practice_clouds.description import Faults, Practice


def test_it_goes_to_another_process_and_back():
    assert Practice.of(Practice(modal={"quota": 0}).to_json()).faults("modal").quota == 0
    asked = Practice(daytona={"start_delay": 2.5, "quota": 2}, e2b={"wrong_key": True}, seed=7)
    assert Practice.of(asked.to_json()) == asked
    assert asked.faults("daytona") == Faults(start_delay=2.5, quota=2)
    assert asked.faults("modal") == Faults()
    assert repr(asked) == "Practice(daytona={'start_delay': 2.5, 'quota': 2}, e2b={'wrong_key': True}, seed=7)"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"dayton": {}}, "no practice cloud of 'dayton'"),
        ({"daytona": {"start_dela": 1}}, "did you mean 'start_delay'"),
        ({"e2b": {"fail_start": 2}}, "between 0 and 1"),
        ({"e2b": {"quota": -1}}, "0 or more"),
        ({"modal": {"wrong_key": 1}}, "True or False"),
        ({"modal": {"quota": 1.5}}, "whole number"),
        ({"runloop": {"start_delay": "long"}}, "a number"),
        ({"runloop": 3}, "a dict of faults"),
        ({"seed": "x"}, "whole number"),
    ],
)
def test_what_can_not_be_is_said_in_one_line(given, says):
    with pytest.raises(BadInputError, match=says) as raised:
        Practice(**given)
    assert "\n" not in str(raised.value)


def test_true_and_none_and_nonsense():
    assert Practice.of(None) is None
    assert Practice.of(False) is None
    assert Practice.of(True) == Practice()
    for wrong in (3, "yes", {"daytona": {}}):
        with pytest.raises(BadInputError, match=r"harbor_nb\.Practice"):
            Practice.of(wrong)
