package cose

import (
	"errors"
	"reflect"

	"github.com/fxamacker/cbor/v2"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Map is a decoded map. Keys are uint64, int64 (negative) or string; values are
// these, []byte, bool, nil, []any and map[any]any, nothing else.
type Map map[any]any

// Decode reads one map and nothing behind it. Errors: request.too_large,
// cbor.truncated, cbor.limit, cbor.trailing, cbor.duplicate_key (in any map of
// it), cbor.malformed.
func Decode(raw []byte) (Map, error) {
	if err := whole(raw); err != nil {
		return nil, err
	}
	var out map[any]any
	if err := unmarshal(plain, raw, &out); err != nil {
		return nil, err
	}
	if out == nil {
		return nil, reason.New(reason.CBORMalformed, "not a map")
	}
	return out, nil
}

// Bytes returns the byte string of a key: nil where there is none, or null.
// Errors: cbor.malformed.
func (m Map) Bytes(key any) ([]byte, error) {
	v, ok := m[key]
	if !ok || v == nil {
		return nil, nil
	}
	b, ok := v.([]byte)
	if !ok {
		return nil, reason.Newf(reason.CBORMalformed, "%v is no byte string", key)
	}
	return b, nil
}

// Text returns the text of a key, "" where there is none. Errors: cbor.malformed.
func (m Map) Text(key any) (string, error) {
	v, ok := m[key]
	if !ok {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", reason.Newf(reason.CBORMalformed, "%v is no text", key)
	}
	return s, nil
}

// Array returns the array of a key, nil where there is none. Errors:
// cbor.malformed.
func (m Map) Array(key any) ([]any, error) {
	v, ok := m[key]
	if !ok {
		return nil, nil
	}
	a, ok := v.([]any)
	if !ok {
		return nil, reason.Newf(reason.CBORMalformed, "%v is no array", key)
	}
	return a, nil
}

// Unsigned returns the number of a key and whether there is one. Errors:
// cbor.malformed.
func (m Map) Unsigned(key any) (uint64, bool, error) {
	v, ok := m[key]
	if !ok {
		return 0, false, nil
	}
	n, ok := v.(uint64)
	if !ok {
		return 0, false, reason.Newf(reason.CBORMalformed, "%v is no unsigned number", key)
	}
	return n, true, nil
}

// Members reads a map of numbers to items that stay as they stand, tags too: for
// what carries messages inside. Errors as Decode.
func Members(raw []byte) (map[uint64][]byte, error) {
	if err := whole(raw); err != nil {
		return nil, err
	}
	var in map[uint64]cbor.RawMessage
	if err := unmarshal(tagged, raw, &in); err != nil {
		return nil, err
	}
	out := make(map[uint64][]byte, len(in))
	for key, item := range in {
		out[key] = item
	}
	return out, nil
}

// Elements reads an array whose items stay as they stand. Errors as Decode.
func Elements(raw []byte) ([][]byte, error) {
	if err := whole(raw); err != nil {
		return nil, err
	}
	var in []cbor.RawMessage
	if err := unmarshal(tagged, raw, &in); err != nil {
		return nil, err
	}
	out := make([][]byte, len(in))
	for i, item := range in {
		out[i] = item
	}
	return out, nil
}

// String reads one byte string and nothing behind it. Errors as Decode.
func String(raw []byte) ([]byte, error) {
	if err := whole(raw); err != nil {
		return nil, err
	}
	if raw[0]>>5 != majorBytes {
		return nil, reason.New(reason.CBORMalformed, "not a byte string")
	}
	var out []byte
	err := unmarshal(plain, raw, &out)
	return out, err
}

// whole wants one item within the limits and nothing behind it.
func whole(raw []byte) error {
	if len(raw) > MaxSize {
		return reason.New(reason.RequestTooLarge, "CBOR of more than 64 KiB")
	}
	n, err := scan(raw)
	if err != nil {
		return err
	}
	if n != len(raw) {
		return reason.New(reason.CBORTrailing, "bytes behind the CBOR item")
	}
	return nil
}

// plain is the decoder of content, tagged that of what lies around it: both
// refuse what the walk before them refuses, so that neither stands alone.
var plain, tagged = decoder(cbor.TagsForbidden), decoder(cbor.TagsAllowed)

func decoder(tags cbor.TagsMode) cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   MaxDepth,
		MaxArrayElements:  MaxArray,
		MaxMapPairs:       MaxPairs,
		IndefLength:       cbor.IndefLengthAllowed,
		TagsMd:            tags,
		DefaultMapType:    reflect.TypeFor[map[any]any](),
		UTF8:              cbor.UTF8RejectInvalid,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MapKeyByteString:  cbor.MapKeyByteStringForbidden,
		NaN:               cbor.NaNDecodeForbidden,
		Inf:               cbor.InfDecodeForbidden,
	}.DecMode()
	if err != nil {
		panic("cose: " + err.Error()) // constants above, reachable by no input
	}
	return mode
}

func unmarshal(mode cbor.DecMode, raw []byte, into any) error {
	err := mode.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*cbor.DupMapKeyError](err); ok {
		return reason.Wrap(reason.CBORDuplicateKey, "a map has a key twice", err)
	}
	return reason.Wrap(reason.CBORMalformed, "not CBOR of the expected shape", err)
}
