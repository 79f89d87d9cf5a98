import random

from deepred_common.training.batch_order import BalancedOrder


def rows(retain=60, unlearn=40) -> tuple[list[int], list[int]]:
    chooser = random.Random(0)
    sides = [0] * retain + [1] * unlearn
    return [chooser.randrange(20, 80) for _ in sides], sides


def test_every_row_once_an_epoch_in_another_order_each_time_and_the_same_for_the_same_seed():
    order = BalancedOrder(*rows(), step_rows=8, seed=42)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert sorted(first) == sorted(second) == list(range(100)) and len(order) == 100
    assert first != second
    again = BalancedOrder(*rows(), step_rows=8, seed=42)
    again.set_epoch(1)
    assert list(again) == second and list(BalancedOrder(*rows(), step_rows=8, seed=7)) != first


def test_every_batch_holds_both_sides_and_rows_of_like_length():
    lengths, sides = rows(600, 400)
    order = list(BalancedOrder(lengths, sides, step_rows=10, seed=1))
    batches = [order[i : i + 10] for i in range(0, 1000, 10)]
    assert all(5 <= sum(sides[i] == 0 for i in batch) <= 7 for batch in batches)
    padded = sum(10 * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)  # in random order it is 1.4
    assert [max(lengths[i] for i in batch) for batch in batches[:10]] != sorted(
        max(lengths[i] for i in batch) for batch in batches[:10]
    )


def test_one_side_only_and_fewer_rows_than_a_batch():
    assert sorted(BalancedOrder([3, 4, 5], [True] * 3, step_rows=8, seed=0)) == [0, 1, 2]
    assert sorted(BalancedOrder([9] * 9, [False] * 9, step_rows=4, seed=0)) == list(range(9))


def test_the_padded_tokens_of_an_update_are_those_of_its_forward_passes():
    lengths, sides = rows()
    order = BalancedOrder(lengths, sides, step_rows=8, seed=42)
    tokens = order.padded_tokens(epoch=1, batch_size=4)
    order.set_epoch(1)
    shown = list(order)
    assert len(tokens) == 13  # 12 updates of 8 rows, and one of the last 4
    first = [[lengths[i] for i in shown[start : start + 4]] for start in (0, 4)]
    assert tokens[0] == sum(4 * max(batch) for batch in first)
    assert tokens[-1] == 4 * max(lengths[i] for i in shown[96:])


def test_of_two_processes_the_one_with_more_tokens_counts():
    order = BalancedOrder([10, 20, 30, 40], [True] * 4, step_rows=4, seed=0)
    shown = [(i + 1) * 10 for i in order]
    by_process = shown[0] + shown[2], shown[1] + shown[3]
    assert order.padded_tokens(epoch=0, batch_size=1, processes=2) == [max(by_process)]
