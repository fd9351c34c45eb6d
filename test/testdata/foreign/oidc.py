"""A relying party that knows OpenID Connect and nothing of SPIFFE.

Reads where to go from standard input, prints what it saw as JSON.
"""
import base64
import datetime
import json
import ssl
import sys
import urllib.error
import urllib.request

import jwt

given = json.load(sys.stdin)


def get(url, context):
    with urllib.request.urlopen(url, context=context, timeout=20) as answer:
        return json.load(answer)


trusting = ssl.create_default_context(cafile=given["anchor"])
configuration = get(given["issuer"] + "/.well-known/openid-configuration", trusting)
assert configuration["issuer"] == given["issuer"], configuration
keys = get(configuration["jwks_uri"], trusting)
seen = {
    "uses": [k.get("use") for k in keys["keys"]],
    "keys_of_others": any("x5c" in k or "d" in k for k in keys["keys"]),
    "refused": {},
}
token = given["token"]
header = jwt.get_unverified_header(token)
seen["algorithm"] = header["alg"]
key = next(k for k in jwt.PyJWKSet.from_dict(keys).keys if k.key_id == header["kid"]).key
algorithms = configuration["id_token_signing_alg_values_supported"]


def verify(text, audience=given["audience"], issuer=given["issuer"], leeway=0, begins=True):
    return jwt.decode(text, key, algorithms=algorithms, audience=audience, issuer=issuer, leeway=leeway,
                      options={"require": ["exp", "iat", "nbf", "aud", "iss", "sub", "jti"],
                               "verify_iat": begins, "verify_nbf": begins})


def refusal(*args, **kwargs):
    try:
        verify(*args, **kwargs)
    except jwt.PyJWTError as e:
        return type(e).__name__
    return "accepted"


def encode(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


seen["claims"] = verify(token)
head, body, signature = token.split(".")
forged = dict(seen["claims"], sub="spiffe://elsewhere/admin")
last = "A" if signature[9] != "A" else "B"
seen["refused"] = {
    "audience": refusal(token, audience="somebody-else"),
    "issuer": refusal(token, issuer="https://elsewhere"),
    "payload": refusal(head + "." + encode(forged) + "." + signature),
    "signature": refusal(".".join((head, body, signature[:9] + last + signature[10:]))),
    "none": refusal(encode(dict(header, alg="none")) + "." + body + "."),
    # As a reader whose clock is a day ahead would.
    "later": refusal(token, leeway=-datetime.timedelta(days=1), begins=False),
}
try:
    get(given["issuer"] + "/.well-known/openid-configuration", ssl.create_default_context())
    seen["distrusted"] = "trusted"
except urllib.error.URLError as e:
    seen["distrusted"] = type(e.reason).__name__
json.dump(seen, sys.stdout)
