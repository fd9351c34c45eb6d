package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics of the listeners, and of the process. Labels are enums: route patterns and reason codes,
// never addresses, nodes or texts.
type metrics struct {
	requests     *prometheus.CounterVec
	seconds      *prometheus.HistogramVec
	limited      *prometheus.CounterVec
	refusedConns *prometheus.CounterVec
	conns        prometheus.Gauge
	inWork       *prometheus.GaugeVec
	waited       prometheus.Histogram
	panics       prometheus.Counter
	unlogged     prometheus.Counter
}

func newMetrics(r prometheus.Registerer, ahead func() int64) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zonebroker_http_requests_total", Help: "Requests by route and reason code (ok without a refusal).",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "zonebroker_http_request_seconds", Help: "Time from the end of the header to the answer, by route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zonebroker_http_limited_total", Help: "Requests turned away, by limit.",
		}, []string{"limit"}),
		refusedConns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zonebroker_http_connections_refused_total", Help: "Connections closed before TLS, by limit.",
		}, []string{"limit"}),
		conns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "zonebroker_http_connections", Help: "Open TCP connections.",
		}),
		inWork: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "zonebroker_http_requests_in_work", Help: "Requests in work, by lane.",
		}, []string{"lane"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonebroker_http_turn_seconds", Help: "Time that requests waited for a turn at the cores, those in vain included.",
			Buckets: []float64{.0001, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "zonebroker_http_panics_total", Help: "Handlers that panicked; each is a bug.",
		}),
		unlogged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "zonebroker_http_log_lines_dropped_total", Help: "Log lines left out because there were too many.",
		}),
	}
	for _, c := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "zonebroker_history_weeks_ahead", Help: "Whole weeks after this one that the history has partitions for; below 2 somebody has to look, -1 is unknown.",
		}, func() float64 { return float64(ahead()) }),
		m.requests, m.seconds, m.limited, m.refusedConns, m.conns, m.inWork, m.waited, m.panics, m.unlogged,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
