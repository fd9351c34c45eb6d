package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/zonebroker/zonebroker/broker/server"
)

// limits are the bounds that zonebroker.yaml may change; what is not named, or
// zero, keeps its default. The defaults hold a fleet of thousands; a rack
// behind one address, or a load test, wants others.
type limits struct {
	// Connections and ConnectionsPerAddress bound open TCP connections.
	Connections           int `yaml:"connections"`
	ConnectionsPerAddress int `yaml:"connections_per_address"`
	// Idle is how long a connection without requests is kept. A host that keeps
	// its own from one renewal to the next saves a handshake and costs the broker
	// about 75 kB.
	Idle time.Duration `yaml:"idle"`
	// Arrivals is the rate of new connections of one address, Newcomers that of all
	// addresses together that never showed a good certificate.
	Arrivals  bound `yaml:"arrivals"`
	Newcomers bound `yaml:"newcomers"`
	// Turns is how many attestations, challenges and later SVIDs are worked on at
	// once, Queue how many more wait; others are sent away.
	Turns int `yaml:"turns"`
	Queue int `yaml:"queue"`
	// Strangers is the rate of challenges and attestations of everybody without a
	// valid SVID together, PerAddress of one address of them.
	Strangers  bound `yaml:"strangers"`
	PerAddress bound `yaml:"per_address"`
	// Nodes is the rate of all nodes together, Node of one.
	Nodes bound `yaml:"nodes"`
	Node  bound `yaml:"node"`
	// Documents is the rate of one address for what anyone may read, Operator that
	// of one role certificate.
	Documents bound `yaml:"documents"`
	Operator  bound `yaml:"operator"`
	// Enrolments a second, and attestations a minute of one node whatever its lane.
	Enrolments       int `yaml:"enrolments"`
	NodeAttestations int `yaml:"node_attestations"`
}

// bound is a token bucket: so many a second on average, so many at once.
type bound struct {
	PerSecond float64 `yaml:"per_second"`
	Burst     int     `yaml:"burst"`
}

// check refuses a bound below zero, and a rate without a burst or the other way
// round: such a bucket would never give a token.
func (l limits) check() error {
	for name, n := range map[string]int{
		"connections": l.Connections, "connections_per_address": l.ConnectionsPerAddress,
		"turns": l.Turns, "queue": l.Queue, "enrolments": l.Enrolments, "node_attestations": l.NodeAttestations,
	} {
		if n < 0 {
			return fmt.Errorf("limits.%s is below zero", name)
		}
	}
	if l.Idle != 0 && l.Idle < time.Second {
		return errors.New("limits.idle is below a second: connections would end between two requests of one attestation")
	}
	if l.Turns == 1 {
		return errors.New("limits.turns is 1: nodes and strangers would share it; 2 is the least")
	}
	for name, b := range map[string]bound{
		"arrivals": l.Arrivals, "newcomers": l.Newcomers, "strangers": l.Strangers, "per_address": l.PerAddress,
		"nodes": l.Nodes, "node": l.Node, "documents": l.Documents, "operator": l.Operator,
	} {
		if b != (bound{}) && (b.PerSecond <= 0 || b.Burst <= 0) {
			return fmt.Errorf("limits.%s: per_second and burst go together, both above zero", name)
		}
	}
	return nil
}

func (l limits) ofServer() server.Limits {
	return server.Limits{
		MaxConns: l.Connections, MaxConnsPerIP: l.ConnectionsPerAddress,
		Arrivals: server.Rate(l.Arrivals), Newcomers: server.Rate(l.Newcomers), Turns: l.Turns, Queue: l.Queue,
		Strangers: server.Rate(l.Strangers), PerIP: server.Rate(l.PerAddress),
		Nodes: server.Rate(l.Nodes), Node: server.Rate(l.Node),
		Documents: server.Rate(l.Documents), Operator: server.Rate(l.Operator),
	}
}

func (l limits) timeouts() server.Timeouts { return server.Timeouts{Idle: l.Idle} }
