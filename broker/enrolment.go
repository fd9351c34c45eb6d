package broker

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/zonebroker/zonebroker/broker/api"
)

// materialHash commits to what a machine showed of itself at the challenge, so
// that it cannot show another EK certificate when the quote arrives.
func materialHash(ekPublic, ekCertificate []byte, chain []api.Bytes) [32]byte {
	h := sha256.New()
	put := func(b []byte) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	put(ekPublic)
	put(ekCertificate)
	for _, c := range chain {
		put(c)
	}
	return [32]byte(h.Sum(nil))
}
