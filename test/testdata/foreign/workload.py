"""A client of the SPIFFE Workload API that shares no code with the server.

Reads where to go from standard input, prints what it saw as JSON.
"""
import json
import sys

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

given = json.load(sys.stdin)
pool = descriptor_pool.DescriptorPool()
files = descriptor_pb2.FileDescriptorSet()
with open(given["descriptors"], "rb") as f:
    files.ParseFromString(f.read())
for one in files.file:
    pool.Add(one)


def message(name):
    found = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(found)
    return message_factory.MessageFactory(pool).GetPrototype(found)


channel = grpc.insecure_channel(given["target"])
MARK = (("workload.spiffe.io", "true"),)


def call(method, request, response, streams):
    kind = channel.unary_stream if streams else channel.unary_unary
    return kind("/SpiffeWorkloadAPI/" + method,
                request_serializer=request.SerializeToString,
                response_deserializer=message(response).FromString)


def status(do):
    """The code by which a call is refused, OK if it is not."""
    try:
        answer = do()
        if hasattr(answer, "__next__"):
            next(answer)
    except grpc.RpcError as e:
        return e.code().name
    return "OK"


def signed_by(cert, issuer):
    key = issuer.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(cert.signature_hash_algorithm))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(cert.signature, cert.tbs_certificate_bytes, padding.PKCS1v15(), cert.signature_hash_algorithm)
    else:
        raise TypeError(type(key))
    return cert.issuer == issuer.subject


def certificates(der):
    """Certificates that follow each other without anything between."""
    out = []
    while der:
        n = 2 + (der[1] if der[1] < 0x80 else (der[1] & 0x7F) + int.from_bytes(der[2:2 + (der[1] & 0x7F)], "big"))
        out.append(x509.load_der_x509_certificate(der[:n]))
        der = der[n:]
    return out


def spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


seen = {}
ask = message("X509SVIDRequest")()
fetch = call("FetchX509SVID", ask, "X509SVIDResponse", True)
stream = fetch(ask, metadata=MARK, timeout=30)
svid = next(stream).svids[0]
seen["stream_stays"] = stream.is_active()
stream.cancel()
chain, roots = certificates(svid.x509_svid), certificates(svid.bundle)
leaf = chain[0]
key = serialization.load_der_private_key(svid.x509_svid_key, None)
seen["id"] = svid.spiffe_id
seen["uris"] = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
    x509.UniformResourceIdentifier)
seen["key_matches"] = spki(key.public_key()) == spki(leaf.public_key())


def verified_by(cert, candidates):
    for root in candidates:
        try:
            if signed_by(cert, root):
                return True
        except Exception:
            pass
    return False


seen["verifies"] = all(signed_by(a, b) for a, b in zip(chain, chain[1:])) and verified_by(chain[-1], roots)
seen["without_mark"] = status(lambda: fetch(ask, timeout=10))
seen["wrong_mark"] = status(lambda: fetch(ask, metadata=(("workload.spiffe.io", "yes"),), timeout=10))

ask = message("X509BundlesRequest")()
stream = call("FetchX509Bundles", ask, "X509BundlesResponse", True)(ask, metadata=MARK, timeout=30)
seen["domains"] = sorted(next(stream).bundles)
stream.cancel()


def token(*audience):
    r = message("JWTSVIDRequest")(audience=list(audience))
    return call("FetchJWTSVID", r, "JWTSVIDResponse", False)(r, metadata=MARK, timeout=30)


def check(audience, text):
    r = message("ValidateJWTSVIDRequest")(audience=audience, svid=text)
    return call("ValidateJWTSVID", r, "ValidateJWTSVIDResponse", False)(r, metadata=MARK, timeout=30)


jwt = token(given["audience"]).svids[0]
seen["token_id"] = jwt.spiffe_id
seen["validated"] = check(given["audience"], jwt.svid).spiffe_id
seen["other_reader"] = status(lambda: check("somebody-else", jwt.svid))
seen["no_audience"] = status(lambda: token())
seen["other_wanted"] = status(lambda: token("not-listed"))
ask = message("X509SVIDRequest")()
seen["unknown_method"] = status(lambda: call("FetchEverything", ask, "X509SVIDResponse", False)(ask, metadata=MARK, timeout=10))
json.dump(seen, sys.stdout)
