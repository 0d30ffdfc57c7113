# SPDX-License-Identifier: Apache-2.0
"""Names of classes, attributes and fields: those of the OpenAPI are written, those of any generation are
read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.dmi.provmns.documents import Edit, document, read_edit
from ran_datajobs.dmi.provmns.names import Aliases, openapi_aliases
from ran_datajobs.model import ErrorDetail, Op, Operation
from ran_datajobs.nrm.model import Attribute, load

# The names of the attributes in the OpenAPI of TS 28.541 18.6 and TS 28.623 18.5, by stage-2 class.
OPENAPI: dict[str, tuple[str, str]] = {
    "SubNetwork": (
        "SubNetwork",
        (
            "dnPrefix priorityLabel setOfMcc supportedPerfMetricGroups supportedTraceMetrics "
            "userDefinedNetworkType userLabel"
        ),
    ),
    "MeContext": ("MeContext", "dnPrefix"),
    "ManagedElement": (
        "ManagedElement",
        (
            "dnPrefix locationName managedBy managedElementTypeList priorityLabel "
            "supportedPerfMetricGroups supportedTraceMetrics swVersion userDefinedState userLabel "
            "vendorName"
        ),
    ),
    "GNBDUFunction": (
        "GnbDuFunction",
        (
            "configurable5QISetRef dynamic5QISetRef gnbDuId gnbDuName gnbId gnbIdLength "
            "peeParametersList priorityLabel rimRSReportConf supportedPerfMetricGroups "
            "supportedTraceMetrics userLabel vnfParametersList"
        ),
    ),
    "GNBCUCPFunction": (
        "GnbCuCpFunction",
        (
            "configurable5QISetRef dCHOControl dDAPSHOControl dynamic5QISetRef ephemerisInfoSetRef "
            "gnbCuName gnbId gnbIdLength mappingSetIDBackhaulAddress peeParametersList plmnId "
            "priorityLabel supportedPerfMetricGroups supportedTraceMetrics tceMappingInfoList userLabel "
            "vnfParametersList x2AllowList x2BlockList x2HOBlockList xnAllowList xnBlockList "
            "xnHOBlackList"
        ),
    ),
    "GNBCUUPFunction": (
        "GnbCuUpFunction",
        (
            "configurable5QISetRef dynamic5QISetRef gnbCuUpId gnbId gnbIdLength peeParametersList "
            "plmnInfoList priorityLabel supportedPerfMetricGroups supportedTraceMetrics userLabel "
            "vnfParametersList"
        ),
    ),
    "NRCellDU": (
        "NrCellDu",
        (
            "administrativeState aggressorSetRef arfcnDL arfcnSUL arfcnUL bSChannelBwDL bSChannelBwSUL "
            "bSChannelBwUL bwpRef bwpSetRef cellLocalId cellState nRFrequencyRef npnIdentityList nrPci "
            "nrSectorCarrierRef nrTac operationalState peeParametersList plmnInfoList priorityLabel "
            "rimRSMonitoringOccasionInterval rimRSMonitoringOccasionStartingOffset "
            "rimRSMonitoringStartTime rimRSMonitoringStopTime rimRSMonitoringWindowDuration "
            "rimRSMonitoringWindowPeriodicity rimRSMonitoringWindowStartingOffset ssbDuration "
            "ssbFrequency ssbOffset ssbPeriodicity ssbSubCarrierSpacing supportedPerfMetricGroups "
            "supportedTraceMetrics userLabel victimSetRef vnfParametersList"
        ),
    ),
    "NRCellCU": (
        "NrCellCu",
        (
            "cellLocalId nRFrequencyRef peeParametersList plmnInfoList priorityLabel "
            "supportedPerfMetricGroups supportedTraceMetrics userLabel vnfParametersList"
        ),
    ),
    "NRSectorCarrier": (
        "NrSectorCarrier",
        (
            "arfcnDL arfcnUL bSChannelBwDL bSChannelBwUL configuredMaxTxPower peeParametersList "
            "priorityLabel sectorEquipmentFunctionRef supportedPerfMetricGroups supportedTraceMetrics "
            "txDirection userLabel vnfParametersList"
        ),
    ),
    "BWP": (
        "Bwp",
        (
            "bwpContext cyclicPrefix isInitialBwp numberOfRBs peeParametersList priorityLabel startRB "
            "subCarrierSpacing supportedPerfMetricGroups supportedTraceMetrics userLabel "
            "vnfParametersList"
        ),
    ),
    "NRCellRelation": (
        "NRCellRelation",
        (
            "adjacentNRCellRef cellIndividualOffset isENDCAllowed isESCoveredBy isHOAllowed "
            "isMLBAllowed isRemoveAllowed nRFreqRelationRef nRTCI"
        ),
    ),
    "NRFreqRelation": (
        "NRFreqRelation",
        (
            "blockListEntry blockListEntryIdleMode cellReselectionPriority cellReselectionSubPriority "
            "nRFrequencyRef offsetMO pMax qOffsetFreq qQualMin qRxLevMin tReselectionNRSfHigh "
            "tReselectionNRSfMedium tReselectionNr threshXHighP threshXHighQ threshXLowP threshXLowQ"
        ),
    ),
    "EUtranCellRelation": (
        "EUtranCellRelation",
        (
            "adjacentEUtranCellRef peeParametersList priorityLabel supportedPerfMetricGroups "
            "supportedTraceMetrics userLabel vnfParametersList"
        ),
    ),
    "EUtranFreqRelation": (
        "EUtranFreqRelation",
        (
            "blackListEntry blackListEntryIdleMode cellIndividualOffset cellReselectionPriority "
            "cellReselectionSubPriority eUTranFrequencyRef pMax qOffsetFreq qQualMin qRxLevMin "
            "tReselectionEutran tReselectionNRSfHigh tReselectionNRSfMedium threshXHighP threshXHighQ "
            "threshXLowP threshXLowQ"
        ),
    ),
    "NRFrequency": ("NRFrequency", "absoluteFrequencySSB multiFrequencyBandListNR ssbSubCarrierSpacing"),
    "EUtranFrequency": ("EUtranFrequency", "earfcnDL multiBandInfoListEutra"),
    "ExternalGNBCUCPFunction": (
        "ExternalGnbCuCpFunction",
        (
            "gnbId gnbIdLength peeParametersList plmnId priorityLabel supportedPerfMetricGroups "
            "supportedTraceMetrics userLabel vnfParametersList"
        ),
    ),
    "ExternalNRCellCU": (
        "ExternalNrCellCu",
        (
            "cellLocalId nRFrequencyRef nrPci peeParametersList plmnIdList priorityLabel "
            "supportedPerfMetricGroups supportedTraceMetrics userLabel vnfParametersList"
        ),
    ),
    "RRMPolicyRatio": (
        "RRMPolicyRatio",
        "rRMPolicyDedicatedRatio rRMPolicyMaxRatio rRMPolicyMemberList rRMPolicyMinRatio resourceType",
    ),
}

# Attributes of the OpenAPI that the model does not have.
NOT_OURS = {
    "SubNetwork": {"supportedTraceMetrics"},
    "ManagedElement": {"supportedTraceMetrics"},
    "GNBDUFunction": {"dynamic5QISetRef", "configurable5QISetRef", "supportedTraceMetrics"},
    "GNBCUCPFunction": {
        "tceMappingInfoList",
        "supportedTraceMetrics",
        "mappingSetIDBackhaulAddress",
        "ephemerisInfoSetRef",
    },
    "GNBCUUPFunction": {"supportedTraceMetrics"},
    "NRCellDU": {"supportedTraceMetrics"},
    "NRCellCU": {"supportedTraceMetrics"},
    "NRSectorCarrier": {"supportedTraceMetrics"},
    "BWP": {"supportedTraceMetrics"},
    "EUtranCellRelation": {"supportedTraceMetrics"},
    "ExternalGNBCUCPFunction": {"supportedTraceMetrics"},
    "ExternalNRCellCU": {"supportedTraceMetrics"},
}

# Attributes of stage 2 that the OpenAPI does not have: they keep their names.
NOT_THEIRS = {
    "GNBCUUPFunction": {"mappingSetIDBackhaulAddressList"},
    "NRSectorCarrier": {"configuredMaxTxEIRP"},
    "EUtranCellRelation": {
        "cellIndividualOffset",
        "tCI",
        "isHOAllowed",
        "isENDCAllowed",
        "isRemoveAllowed",
        "isESCoveredBy",
        "isICICInformationSendAllowed",
        "isLBAllowed",
        "qOffset",
    },
    "EUtranFreqRelation": {
        "supportedPerfMetricGroups",
        "vnfParametersList",
        "userLabel",
        "peeParametersList",
        "priorityLabel",
    },
    "NRFrequency": {
        "supportedPerfMetricGroups",
        "vnfParametersList",
        "userLabel",
        "peeParametersList",
        "priorityLabel",
    },
    "EUtranFrequency": {
        "supportedPerfMetricGroups",
        "vnfParametersList",
        "userLabel",
        "peeParametersList",
        "priorityLabel",
    },
}

# Spellings of YANG and of the OpenAPI 19.6 and 19.7 that differ from stage 2's and the older OpenAPI's.
ELSEWHERE = [
    ("SubNetwork", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("ManagedElement", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("GNBDUFunction", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("GNBCUCPFunction", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("GNBCUCPFunction", "x2AllowList", "x2WhiteList"),
    ("GNBCUCPFunction", "x2BlockList", "x2BlackList"),
    ("GNBCUCPFunction", "x2HOBlockList", "x2HOBlackList"),
    ("GNBCUCPFunction", "xnAllowList", "xnWhiteList"),
    ("GNBCUCPFunction", "xnBlockList", "xnBlackList"),
    ("GNBCUUPFunction", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("GNBCUUPFunction", "pLMNInfoList", "PlmnInfoList"),
    ("NRCellDU", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("NRCellDU", "pLMNInfoList", "plmnInfoInfoList"),
    ("NRCellCU", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("NRSectorCarrier", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("BWP", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("NRFreqRelation", "blockListEntry", "blackListEntry"),
    ("NRFreqRelation", "blockListEntryIdleMode", "blackListEntryIdleMode"),
    ("EUtranCellRelation", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("EUtranFreqRelation", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("NRFrequency", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("EUtranFrequency", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("ExternalGNBCUCPFunction", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("ExternalNRCellCU", "supportedPerfMetricGroups", "SupportedPerfMetricGroup"),
    ("ExternalNRCellCU", "pLMNIdList", "plMNIdList"),
    ("RRMPolicyRatio", "rRMPolicyMemberList", "RRMPolicyMemberList"),
]

# Fields of attributes that have other names in the OpenAPI.
FIELDS = [
    ("NRCellRelation", "cellIndividualOffset/rsrpOffsetSsb", "cellIndividualOffset/rsrpOffsetSSB"),
    ("NRCellRelation", "cellIndividualOffset/rsrqOffsetCsiRs", "cellIndividualOffset/rsrqOffsetCSI-RS"),
    ("NRFreqRelation", "offsetMO/sinrOffsetSsb", "offsetMO/sinrOffsetSSB"),
    ("NRFreqRelation", "offsetMO/sinrOffsetCsiRs", "offsetMO/sinrOffsetCSI-RS"),
    ("NRCellDU", "nPNIdentityList/0/plmnid", "npnIdentityList/0/plmnId"),
    ("NRCellDU", "nPNIdentityList/-/cAGIdList", "npnIdentityList/-/cagidList"),
    ("NRCellDU", "nPNIdentityList/0/nIDList", "npnIdentityList/0/nidList"),
    ("NRCellDU", "pLMNInfoList/0/plmnId/mcc", "plmnInfoList/0/plmnId/mcc"),
    ("GNBDUFunction", "rimRSReportConf/RimRSReportInfoList", "rimRSReportConf/rimRSReportInfoList"),
]

MODEL = load()
ALIASES = openapi_aliases(MODEL)


def attributes_of(class_name: str) -> dict[str, Attribute]:
    managed = MODEL.managed_class(class_name)
    assert managed is not None
    return managed.attributes


@pytest.mark.parametrize("class_name", OPENAPI)
def test_what_is_written_is_of_the_openapi(class_name: str) -> None:
    """Every name, except attributes that the OpenAPI does not have. No name of the OpenAPI is missing."""
    their_class, text = OPENAPI[class_name]
    names = set(text.split())
    assert ALIASES.their_key(f"{class_name}=1") == f"{their_class}=1"
    assert ALIASES.our_key(f"{their_class}=1") == f"{class_name}=1"
    written = {name: ALIASES.their_attribute(class_name, name) for name in attributes_of(class_name)}
    assert {name for name, theirs in written.items() if theirs not in names} == NOT_THEIRS.get(
        class_name, set()
    )
    assert names - set(written.values()) == NOT_OURS.get(class_name, set())
    for name, theirs in written.items():
        assert ALIASES.our_attributes(class_name, {theirs: 1}) == {name: 1}


@pytest.mark.parametrize(("class_name", "name", "spelling"), ELSEWHERE)
def test_the_spellings_of_other_generations_are_read(class_name: str, name: str, spelling: str) -> None:
    """A server may mix two generations."""
    assert ALIASES.our_attributes(class_name, {spelling: [1]}) == {name: [1]}


@pytest.mark.parametrize(("class_name", "ours", "theirs"), FIELDS)
def test_fields_are_translated(class_name: str, ours: str, theirs: str) -> None:
    """In pointers, in both directions, through the items of lists."""
    tokens, _ = ALIASES.their_pointer(class_name, tuple(ours.split("/")))
    assert tokens == tuple(theirs.split("/"))
    assert ALIASES.our_pointer(class_name, tokens) == tuple(ours.split("/"))


def values_of(attribute: Attribute) -> st.SearchStrategy[object]:
    """Values with every field of an attribute, or with some."""
    if attribute.items is not None:
        return st.lists(values_of(attribute.items), max_size=2)
    if attribute.fields:
        optional = {name: values_of(field) for name, field in attribute.fields.items()}
        return st.fixed_dictionaries({}, optional=optional)
    return st.integers(0, 9)


@given(
    st.sampled_from(list(OPENAPI)).flatmap(
        lambda name: st.tuples(
            st.just(name),
            st.fixed_dictionaries(
                {}, optional={each: values_of(attribute) for each, attribute in attributes_of(name).items()}
            ),
        )
    )
)
def test_attributes_come_back_as_they_went(one: tuple[str, dict[str, object]]) -> None:
    """With all their fields."""
    class_name, attributes = one
    theirs = ALIASES.their_attributes(class_name, attributes)
    assert ALIASES.our_attributes(class_name, theirs) == attributes


@pytest.mark.parametrize(
    ("op", "fragment", "value", "path", "written"),
    [
        (Op.REPLACE, "/cellIndividualOffset", {"rsrpOffsetSsb": 1},
         "/cellIndividualOffset", {"rsrpOffsetSSB": 1}),
        (Op.REPLACE, "/cellIndividualOffset/rsrpOffsetCsiRs", 1,
         "/cellIndividualOffset/rsrpOffsetCSI-RS", 1),
        (Op.MERGE, "", {"cellIndividualOffset": {"rsrpOffsetSsb": None}},
         "", {"cellIndividualOffset": {"rsrpOffsetSSB": None}}),
    ],
)  # fmt: skip
def test_values_are_written_with_their_fields(
    op: Op, fragment: str, value: object, path: str, written: object
) -> None:
    """A value below an attribute is translated as well as its path."""
    key = "GNBCUCPFunction=1/NRCellCU=1/NRCellRelation=1"
    operation = Operation(op, f"/{key}#/attributes{fragment}", 1, msgspec.Raw(msgspec.json.encode(value)))
    edit = read_edit(operation)
    assert not isinstance(edit, ErrorDetail)
    assert isinstance(edit, Edit)
    [line] = msgspec.json.decode(document([edit], "GNBCUCPFunction=1", ALIASES))
    assert (line["path"], line["value"]) == ("/NrCellCu=1/NRCellRelation=1#/attributes" + path, written)


def test_a_server_may_have_names_of_its_own() -> None:
    """They are added to the generation's names, which are still read. Fields keep theirs."""
    own = Aliases({}, {"NRCellDU": {"nRTAC": "trackingAreaCode", "nPNIdentityList": "npns"}})
    both = ALIASES.with_those_of(own)
    assert both.their_attribute("NRCellDU", "nRTAC") == "trackingAreaCode"
    assert both.their_attribute("NRCellDU", "nRPCI") == "nrPci"
    assert both.our_attributes("NRCellDU", {"nrTac": 1}) == {"nRTAC": 1}
    assert both.our_attributes("NRCellDU", {"trackingAreaCode": 1}) == {"nRTAC": 1}
    assert both.their_attributes("NRCellDU", {"nPNIdentityList": [{"nIDList": "x"}]}) == {
        "npns": [{"nidList": "x"}]
    }
