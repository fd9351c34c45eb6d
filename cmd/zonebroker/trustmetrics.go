package main

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// trustMetrics say how the trust data does. Labels are kinds of objects and
// outcomes, both enums.
type trustMetrics struct {
	ends      atomic.Pointer[map[string]time.Time] // by kind
	expires   *prometheus.Desc
	stale     prometheus.Gauge
	refreshes *prometheus.CounterVec
}

func newTrustMetrics() *trustMetrics {
	return &trustMetrics{
		expires: prometheus.NewDesc("zonebroker_trust_expires_seconds",
			"Time until the first trust object of a kind stops to count; below zero what rests on it is refused.", []string{"kind"}, nil),
		stale: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "zonebroker_trust_reload_failed", Help: "1 while the folders hold trust data that cannot be used and an older version is in force.",
		}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zonebroker_trust_refreshes_total", Help: "Trust objects looked at by the broker's own refreshing, by outcome.",
		}, []string{"outcome"}),
	}
}

func (m *trustMetrics) loaded(ends map[string]time.Time) { m.ends.Store(&ends) }

func (m *trustMetrics) reloaded(err error) {
	m.stale.Set(0)
	if err != nil {
		m.stale.Set(1)
	}
}

func (m *trustMetrics) refreshed(outcome string) { m.refreshes.WithLabelValues(outcome).Inc() }

// Describe and Collect make it a prometheus.Collector.
func (m *trustMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.expires
	m.stale.Describe(to)
	m.refreshes.Describe(to)
}

func (m *trustMetrics) Collect(to chan<- prometheus.Metric) {
	if ends := m.ends.Load(); ends != nil {
		for kind, end := range *ends {
			to <- prometheus.MustNewConstMetric(m.expires, prometheus.GaugeValue, end.Sub(now()).Seconds(), kind)
		}
	}
	m.stale.Collect(to)
	m.refreshes.Collect(to)
}
