// A client of KEDA's external scaler contract, with KEDA's own generated package: it prints what each call answers, as JSON,
// a line each. "watch" follows StreamIsActive until a push says true; "ask" makes the three other calls once.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const patience = 60 * time.Second

func say(value map[string]any) {
	text, err := json.Marshal(value)
	check(err)
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		say(map[string]any{"error": status.Code(err).String(), "text": err.Error()})
		os.Exit(1)
	}
}

func main() {
	connection, err := grpc.NewClient(os.Args[2], grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := pb.NewExternalScalerClient(connection)
	reference := &pb.ScaledObjectRef{
		Name: "orders", Namespace: "shop",
		ScalerMetadata: map[string]string{"scalerAddress": os.Args[2], "worker": "orders"},
	}
	if os.Args[1] == "watch" {
		watch(ctx, client, reference)
		return
	}
	ask(ctx, client, reference)
}

func watch(ctx context.Context, client pb.ExternalScalerClient, reference *pb.ScaledObjectRef) {
	stream, err := client.StreamIsActive(ctx, reference, grpc.WaitForReady(true))
	check(err)
	for {
		answer, err := stream.Recv()
		check(err)
		say(map[string]any{"active": answer.Result, "at": float64(time.Now().UnixMicro()) / 1e6})
		if answer.Result {
			return
		}
	}
}

func ask(ctx context.Context, client pb.ExternalScalerClient, reference *pb.ScaledObjectRef) {
	specs, err := client.GetMetricSpec(ctx, reference, grpc.WaitForReady(true))
	check(err)
	spec := specs.MetricSpecs[0]
	say(map[string]any{"name": spec.MetricName, "target": spec.TargetSize, "targetFloat": spec.TargetSizeFloat})
	request := &pb.GetMetricsRequest{ScaledObjectRef: reference, MetricName: spec.MetricName}
	metrics, err := client.GetMetrics(ctx, request)
	check(err)
	value := metrics.MetricValues[0]
	say(map[string]any{"name": value.MetricName, "value": value.MetricValue, "valueFloat": value.MetricValueFloat})
	active, err := client.IsActive(ctx, reference)
	check(err)
	say(map[string]any{"active": active.Result})
}
