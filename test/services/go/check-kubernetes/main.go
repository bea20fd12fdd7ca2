// Reads Kubernetes manifests from standard input, as strictly as an API server does: an unknown or misspelt field, or one
// of the wrong type, is an error. Prints the kind and name of each.

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	text, err := io.ReadAll(os.Stdin)
	fail(err)
	for _, document := range strings.Split(string(text), "\n---\n") {
		var kind metav1.TypeMeta
		fail(yaml.Unmarshal([]byte(document), &kind))
		object := map[string]metav1.Object{
			"batch/v1 CronJob":         &batchv1.CronJob{},
			"v1 Secret":                &corev1.Secret{},
			"v1 ConfigMap":             &corev1.ConfigMap{},
			"v1 PersistentVolumeClaim": &corev1.PersistentVolumeClaim{},
			"v1 ServiceAccount":        &corev1.ServiceAccount{},
		}[kind.APIVersion+" "+kind.Kind]
		if object == nil {
			fail(fmt.Errorf("%s %s is not known here", kind.APIVersion, kind.Kind))
		}
		fail(yaml.UnmarshalStrict([]byte(document), object))
		fmt.Println(kind.Kind, object.GetName())
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
