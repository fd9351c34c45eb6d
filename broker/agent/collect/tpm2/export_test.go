package tpm2collect

// SVIDPassword is the auth value of the SVID key of a rotation value.
func SVIDPassword(rotation []byte) []byte { return svidPassword(rotation) }

// Raw returns the TPMT_PUBLIC of the key.
func (k *SVIDKey) Raw() []byte { return k.raw }
