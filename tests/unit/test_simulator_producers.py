# SPDX-License-Identifier: Apache-2.0
"""One data producer's part of a network."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ran_datajobs.model import Scope, ScopeType
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.names import class_of
from ran_datajobs.nrm.select import flat_objects, picks, selected, selection
from ran_datajobs.nrm.tree import Tree
from ran_datajobs.simulator.producers import ProducerView, element_of
from tests.tiers import examples

CLASSES = ("SubNetwork", "ManagedElement", "GNBDUFunction", "XManagedElement")
rdns = st.tuples(
    st.sampled_from(CLASSES), st.sampled_from(["1", "2", "ManagedElement=1", "a/ManagedElement=2"])
)
keys = st.lists(rdns, min_size=1, max_size=4).map(lambda names: fdn.key(fdn.render(tuple(names))))


@st.composite
def networks(draw: st.DrawFn) -> tuple[Tree, list[str]]:
    """A tree, and some of its ManagedElements, none of which contains another."""
    tree = Tree()
    for key in draw(st.lists(keys, max_size=12)):
        for above in reversed(list(fdn.ancestors(key))):
            if tree.attributes(above) is None:
                tree.put(above, {"userLabel": above})
    topmost = {element for key, _ in tree.items() if (element := element_of(key))}
    return tree, draw(st.lists(st.sampled_from(sorted(topmost)), unique=True)) if topmost else []


@given(key=keys)
def test_the_element_of_an_object_is_the_topmost_above_it(key: str) -> None:
    """Also if a value or another class contains the words."""
    above = [each for each in fdn.ancestors(key) if class_of(each) == "ManagedElement"]
    assert element_of(key) == (above[-1] if above else "")


@given(given_network=networks(), data=st.data())
def test_a_view_owns_what_lies_in_its_elements(
    given_network: tuple[Tree, list[str]], data: st.DataObject
) -> None:
    """Ownership does not depend on earlier requests. Only the path down exists in addition."""
    tree, elements = given_network
    view = ProducerView(tree, elements)
    asked = [key for key, _ in tree.items()]
    for key in data.draw(st.permutations(asked)) + asked:
        own = any(each in elements for each in fdn.ancestors(key))
        leads_down = any(element.startswith(f"{key}/") for element in elements)
        assert view.owns(key) is own
        assert (view.attributes(key) is not None) is (own or leads_down)
        shown = {child for child in tree.children(key) if view.attributes(child) is not None}
        assert set(view.children(key)) == shown


@settings(max_examples=examples(60))
@given(given_network=networks(), level=st.integers(0, 4))
def test_all_parts_of_a_read_are_the_read(given_network: tuple[Tree, list[str]], level: int) -> None:
    """From any base, each producer returns its own objects, and no object is returned twice."""
    tree, elements = given_network
    views = [ProducerView(tree, [element]) for element in elements]
    wanted = selection("", Scope(ScopeType.BASE_SUBTREE, level), None, None, None)
    for base in [key for key, _ in tree.items()]:
        parts = [
            one["objectInstance"]
            for view in views
            for one in flat_objects(picks(view.scoped(base, wanted), wanted))
        ]
        whole = [
            one["objectInstance"]
            for one in selected(tree, base, wanted)
            if any(view.owns(fdn.key(one["attributes"]["userLabel"])) for view in views)
        ]
        assert sorted(parts) == sorted(whole)
