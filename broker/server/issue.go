package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/zonebroker/zonebroker/broker/api"
)

func (s *Server) svid(r *request) (answer, error) {
	var req api.SVIDRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Broker.SVID(r.Context(), r.caller, req)
	return answer{value: v}, err
}

func (s *Server) jwt(r *request) (answer, error) {
	var req api.JWTRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	v, err := s.cfg.Broker.JWT(r.Context(), r.caller, req)
	return answer{value: v}, err
}

func (s *Server) openIDConfiguration(r *request) (answer, error) {
	return keyDocument(r, s.cfg.Broker.OIDCDiscovery)
}

func (s *Server) jwks(r *request) (answer, error) { return keyDocument(r, s.cfg.Broker.JWKS) }

// keyDocument answers with a document that verifiers of JWT-SVIDs keep for a
// minute. It is the same for everybody, so that pages of any site may read it.
func keyDocument(r *request, read func(context.Context) ([]byte, error)) (answer, error) {
	doc, err := read(r.Context())
	if err != nil {
		return answer{}, err
	}
	return tagged(r, doc, map[string]string{"Cache-Control": "public, max-age=60", "Access-Control-Allow-Origin": "*"}), nil
}

// tagged is doc with its ETag, or 304 to who has it already.
func tagged(r *request, doc []byte, header map[string]string) answer {
	sum := sha256.Sum256(doc)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	header["ETag"] = tag
	if r.Header.Get("If-None-Match") == tag {
		return answer{status: http.StatusNotModified, header: header}
	}
	return answer{raw: doc, typ: "application/json", header: header}
}
