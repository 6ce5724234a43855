import pytest

from tests.kills import kill_and_resume


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path):
    assert kill_and_resume(tmp_path, kills=20) == []
