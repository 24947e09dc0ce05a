"""Real Harbor trials against each practice cloud, by the vendor's own SDK."""

import pytest

pytestmark = pytest.mark.local
VENDORS = ["daytona", "e2b", "modal", "runloop"]


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_trial_with_a_copied_file_scores_as_on_local(cloud_job, vendor):
    told = cloud_job(vendor, ["report-artifact"], agents=["oracle", "nop"])
    rewards = {trial["agent"]: trial["rewards"] for trial in told["trials"]}
    assert rewards == {
        "oracle": {"totals": 1.0, "plot": 1.0, "reward": 1.0},
        "nop": {"totals": 0.0, "plot": 0.0, "reward": 0.0},
    }
    assert [trial["exception"] for trial in told["trials"]] == [None, None]
    assert told["foreign_keys"] == 0
    assert (told["sandboxes"], told["left"], told["folder_gone"]) == (2, 0, True)
