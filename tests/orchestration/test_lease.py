"""One DAG run at a time works in a workspace."""

from concurrent.futures import ThreadPoolExecutor

from audioml.orchestration.lease import Holder, give_back, read_holder, take

ANN, BEN = Holder("birds", "ann"), Holder("birds.train", "ben")


def goes_on(_):
    return False


def has_ended(_):
    return True


def test_a_second_run_waits_until_the_first_gives_it_back(tmp_path):
    assert take(tmp_path, ANN, goes_on) is None
    assert take(tmp_path, ANN, goes_on) is None, "the holder may ask again, after a retry"
    assert take(tmp_path, BEN, goes_on) == ANN
    assert read_holder(tmp_path) == ANN
    give_back(tmp_path, ANN)
    assert read_holder(tmp_path) is None
    assert take(tmp_path, BEN, goes_on) is None


def test_a_run_that_ended_without_giving_it_back_loses_it(tmp_path):
    take(tmp_path, ANN, goes_on)
    assert take(tmp_path, BEN, has_ended) is None
    assert read_holder(tmp_path) == BEN
    give_back(tmp_path, ANN)
    assert read_holder(tmp_path) == BEN, "who lost it cannot give it back"


def test_of_many_that_ask_at_once_one_gets_it(tmp_path):
    holders = [Holder("birds", str(i)) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda holder: take(tmp_path, holder, goes_on), holders))
    winner = read_holder(tmp_path)
    assert answers.count(None) == 1
    assert holders[answers.index(None)] == winner
    assert {answer for answer in answers if answer} == {winner}
