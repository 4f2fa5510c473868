"""Reading bundles of CAs; what servers show is in tests/cluster/test_check.py."""

from __future__ import annotations

import pytest

from coredump_shim import certificates

CA = """\
-----BEGIN CERTIFICATE-----
MIIBkjCCATegAwIBAgIUNbeEzA+VgTJRffkf+ekrUvVpDgQwCgYIKoZIzj0EAwIw
HTENMAsGA1UECgwEaGVyZTEMMAoGA1UEAwwDb25lMCAXDTI2MTEyNDAzNTUzMloY
DzIxMjYxMDMxMDM1NTMyWjAdMQ0wCwYDVQQKDARoZXJlMQwwCgYDVQQDDANvbmUw
WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARoChRlNvc2zfww4nl3p2TqNCLkiyen
i9gAnJWsLna0wiWmk8uJCwctnkFb951l5trUBu5bi/NCwpCSRke8NLPYo1MwUTAd
BgNVHQ4EFgQUVQgif97ymQh9Z4ArJVrGd7ePBm0wHwYDVR0jBBgwFoAUVQgif97y
mQh9Z4ArJVrGd7ePBm0wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBG
AiEAoK3JFXsIANBnurz9R2awWym8nj7gsCsWSR0yb0wUz8UCIQC5S2pF/M95lgx2
IE2QiN3eAD/BzoNp0uTiFujtstwmCw==
-----END CERTIFICATE-----
"""
OTHER = """\
-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIUV+9idLXKZI6K4z4NC7Ry413wf7UwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTI0MDM1NTMyWhgPMjEyNjEwMzEwMzU1
MzJaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
tbibQsU5FwbNMjgkh5mqL6LIsJaXonqrUXscgL6vVsH1gD7NPDnGANLeooiu2ur8
pDUOD3irsipYWkKZQ3LzRKNTMFEwHQYDVR0OBBYEFIrxRTRfZMnz3WdMo3Xu5G8h
Q/eCMB8GA1UdIwQYMBaAFIrxRTRfZMnz3WdMo3Xu5G8hQ/eCMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAJTHt7IwA/Bw4Q2ubw6UiW4xg8ecqiDP
mjmJmzL1fWAzAiEAmkt9E2PTz/JKFnzRWBbIVDvcJHYwrBSkMRojYcXaGQk=
-----END CERTIFICATE-----
"""
LEAF = """\
-----BEGIN CERTIFICATE-----
MIIBcjCCARigAwIBAgIUKAlEPw2c4hLy3bvlhrpvFc6+VzEwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEbGVhZjAgFw0yNjExMjQwMzU1MzJaGA8yMTI2MTAzMTAzNTUz
MlowDzENMAsGA1UEAwwEbGVhZjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPQ6
iNv0MVx9KnfTCmu6gntFaOKiSZ3XbFAJ8DyUbY3ggFOJcPdD4oniRWrIyGy2+Xgh
o1/7ojcWzdkfT8LO5o2jUDBOMB0GA1UdDgQWBBSL0EHSrevrB4FX5KSMClvtZGgY
rzAfBgNVHSMEGDAWgBSL0EHSrevrB4FX5KSMClvtZGgYrzAMBgNVHRMBAf8EAjAA
MAoGCCqGSM49BAMCA0gAMEUCIDA01xmYde92clEl5YQHx/GS+nHOjkVjkvogUHFY
uJvjAiEA3dgTL2mOnmH6GnC4nVZ0ETHd9q9VdIao/fRdYskU36M=
-----END CERTIFICATE-----
"""
ENDS = 4949092532  # Oct 31 03:55:32 2126 GMT


def test_a_bundle_names_its_authorities_and_when_they_end() -> None:
    found = set(certificates.authorities(f"its old CA\n{CA}and the new one\n{OTHER}"))
    assert {(one.subject, one.expires) for one in found} == {("O=here,CN=one", ENDS), ("CN=other", ENDS)}


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        ("", "is no bundle of certificates"),
        ("hello", "is no bundle of certificates"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is no bundle of certificates"),
        ("\u00e4", "is no bundle of certificates"),
        (CA + LEAF, "holds a certificate that is no CA's"),
    ],
)
def test_what_is_no_bundle_of_authorities_is_said(pem: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        certificates.authorities(pem)


def test_bundles_are_the_same_whatever_their_order() -> None:
    assert certificates.are_same(CA + OTHER, f"\n{OTHER}\n# more\n{CA}")
    assert not certificates.are_same(CA, CA + OTHER)
