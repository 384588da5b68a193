import numpy as np

from prngeo.vectorize.tidy import drop_specks
from prngeo.vectorize.web import Web


def test_a_short_line_with_a_loop_at_its_end_is_a_speck():
    web = Web()
    start, end = (web.add_node(np.array(place, float)) for place in ((0, 0), (3, 0)))
    web.add(start, end, np.array([[0, 0, 1, 1, 0], [3, 0, 1, 1, 0]], float))
    ring = np.array([[3, 0], [4, 1], [5, 0], [4, -1], [3, 0]], float)
    web.add(end, end, np.column_stack([ring, np.ones((5, 2)), np.zeros(5)]))
    assert [sorted(group) for group in web.components()] == [[3, 4]]
    drop_specks(web, 8.0)
    assert len(web.ends) == 2  # 3 m and a loop of 5.7 m
    drop_specks(web, 9.0)
    assert not web.ends
    assert not web.nodes
