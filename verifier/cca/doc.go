// Package cca judges attestation tokens of the Arm Confidential Compute
// Architecture (Arm DEN0137, Realm Management Monitor specification, A7.2;
// draft-ffm-rats-cca-token): a collection of two COSE_Sign1 messages, the platform
// token by a key of the machine and the realm token by a key that the machine's
// monitor made for the realm.
//
// The platform token says nothing of the realm but its challenge, which is the
// hash of the realm's key: this is the one tie between what Arm's firmware vouches
// for and what the realm says, so nothing of the realm token counts before it
// holds. It trusts the platform keys that it is given; neither token carries a
// chain.
package cca
