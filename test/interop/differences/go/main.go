// The Go world's judge, franz-go: run with the bootstrap servers; prints what it saw, a section a step. What
// depends on time or chance is left out here, not by the comparison.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	brokers string
	ctx     context.Context
	admin   *kadm.Client
)

const start = 1_700_000_000_000

func section(name string) { fmt.Println("## franz-go: " + name) }

// named is an error by the protocol's name, as its words are each server's own.
func named(err error) string {
	var known *kerr.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &known):
		return known.Message
	default:
		return err.Error()
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func client(options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers)}, options...)...)
	must(err)
	return made
}

func text(value string) *string { return &value }

func topics() {
	section("topics, create")
	created, err := admin.CreateTopics(ctx, 4, 1, map[string]*string{"retention.ms": text("86400000")}, "fg-four", "fg-other")
	must(err)
	for _, name := range []string{"fg-four", "fg-other"} {
		topic := created[name]
		fmt.Println(topic.Topic, named(topic.Err), topic.NumPartitions, topic.ReplicationFactor, topic.ID != kadm.TopicID{}, *topic.Configs["retention.ms"].Value)
	}
	section("topics, create badly")
	for _, bad := range []struct {
		name       string
		partitions int32
		replicas   int16
		key        string
	}{{"fg-four", 1, 1, ""}, {"fg bad", 1, 1, ""}, {"fg-none", 0, 1, ""}, {"fg-replicas", 1, 2, ""}, {"fg-odd", 1, 1, "no.such"}} {
		configs := map[string]*string{}
		if bad.key != "" {
			configs[bad.key] = text("1")
		}
		_, err := admin.CreateTopic(ctx, bad.partitions, bad.replicas, configs, bad.name)
		fmt.Println(bad.name, named(err))
	}
	section("topics, validate")
	tried, err := admin.ValidateCreateTopics(ctx, 3, 1, nil, "fg-tried")
	must(err)
	for _, topic := range tried.Sorted() {
		fmt.Println(topic.Topic, named(topic.Err), topic.NumPartitions)
	}
	section("topics, partitions")
	grown, err := admin.UpdatePartitions(ctx, 6, "fg-four", "fg-nowhere")
	must(err)
	for _, topic := range grown.Sorted() {
		fmt.Println(topic.Topic, named(topic.Err))
	}
	time.Sleep(500 * time.Millisecond) // Kafka answers before its brokers have heard of it
	section("topics, list")
	listed, err := admin.ListTopics(ctx)
	must(err)
	for _, topic := range listed.Sorted() {
		if strings.HasPrefix(topic.Topic, "fg-") {
			fmt.Println(topic.Topic, topic.IsInternal, named(topic.Err))
			for _, partition := range topic.Partitions.Sorted() {
				fmt.Println(" ", partition.Partition, partition.Leader, partition.LeaderEpoch, partition.Replicas, partition.ISR, partition.OfflineReplicas)
			}
		}
	}
	section("topics, delete")
	deleted, err := admin.DeleteTopics(ctx, "fg-other", "fg-nowhere")
	must(err)
	for _, topic := range deleted.Sorted() {
		fmt.Println(topic.Topic, named(topic.Err), topic.ID != kadm.TopicID{})
	}
}

func configs() {
	section("configs")
	alter := func(changes ...kadm.AlterConfig) {
		answers, err := admin.AlterTopicConfigs(ctx, changes, "fg-four")
		must(err)
		for _, answer := range answers {
			fmt.Println(answer.Name, named(answer.Err))
		}
	}
	alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: text("7200000")})
	alter(kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: text("compact")})
	alter(kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: text("compact")})
	alter(kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"})
	alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "no.such", Value: text("1")})
	time.Sleep(500 * time.Millisecond)
	described, err := admin.DescribeTopicConfigs(ctx, "fg-four", "fg-nowhere")
	must(err)
	for _, resource := range described {
		fmt.Println(resource.Name, named(resource.Err))
		for _, config := range resource.Configs {
			if config.Key == "retention.ms" || config.Key == "cleanup.policy" {
				fmt.Println(" ", config.Key, config.MaybeValue(), config.Source)
			}
		}
	}
}

func records() {
	section("records, an idempotent producer")
	producer := client(kgo.DefaultProduceTopic("fg-four"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100))
	var failures []string
	var wait sync.WaitGroup
	for n := 0; n < 600; n++ {
		wait.Add(1)
		record := &kgo.Record{
			Partition: int32(n % 6),
			Key:       []byte(fmt.Sprint("k", n%10)),
			Value:     []byte(fmt.Sprint("value ", n)),
			Headers:   []kgo.RecordHeader{{Key: "n", Value: []byte(fmt.Sprint(n))}, {Key: "n", Value: nil}},
			Timestamp: time.UnixMilli(start + int64(n)),
		}
		producer.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				failures = append(failures, named(err))
			}
			wait.Done()
		})
	}
	wait.Wait()
	producer.Close()
	fmt.Println("failures", failures)
	for _, codec := range []struct {
		name  string
		codec kgo.CompressionCodec
	}{{"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()}, {"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}} {
		compressing := client(kgo.ProducerBatchCompression(codec.codec), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		record := &kgo.Record{Topic: "fg-four", Partition: 0, Value: []byte(strings.Repeat(codec.name+" ", 100)), Timestamp: time.UnixMilli(start + 1000)}
		result := compressing.ProduceSync(ctx, record)
		fmt.Println(codec.name, named(result.FirstErr()), record.Offset)
		compressing.Close()
	}
	section("records, without acknowledgement")
	careless := client(kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	fmt.Println(named(careless.ProduceSync(ctx, &kgo.Record{Topic: "fg-four", Partition: 1, Value: []byte("x"), Timestamp: time.UnixMilli(start)}).FirstErr()))
	careless.Close()
	section("records, read from the beginning")
	reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"fg-four": {0: kgo.NewOffset().AtStart(), 1: kgo.NewOffset().At(90)}}))
	var lines []string
	for len(lines) < 104+11 && ctx.Err() == nil {
		fetches := reader.PollFetches(ctx)
		for _, failure := range fetches.Errors() {
			fmt.Println("error", named(failure.Err))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			lines = append(lines, fmt.Sprintf("%d %03d %d %q %.20q %d %d", r.Partition, r.Offset, r.Timestamp.UnixMilli()-start, r.Key, r.Value, len(r.Headers), r.LeaderEpoch))
		})
	}
	reader.Close()
	sort.Strings(lines)
	fmt.Println(strings.Join(lines, "\n"))
	section("records, a topic that is not there")
	lost := client(kgo.RecordDeliveryTimeout(3*time.Second), kgo.UnknownTopicRetries(2))
	fmt.Println(named(lost.ProduceSync(ctx, &kgo.Record{Topic: "fg-nowhere", Value: []byte("x")}).FirstErr()))
	lost.Close()
}

// groups: members with the cooperative-sticky balancer come, go, and read everything once.
func groups() {
	section("groups, cooperative-sticky")
	var mutex sync.Mutex
	read := map[string]int{}
	shares := make([]map[int32]bool, 3)
	member := func(index int) *kgo.Client {
		mutex.Lock()
		shares[index] = map[int32]bool{}
		mutex.Unlock()
		note := func(has bool) func(context.Context, *kgo.Client, map[string][]int32) {
			return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
				mutex.Lock()
				defer mutex.Unlock()
				for _, partition := range changed["fg-four"] {
					if has {
						shares[index][partition] = true
					} else {
						delete(shares[index], partition)
					}
				}
			}
		}
		made := client(
			kgo.ConsumerGroup("fg-group"), kgo.ConsumeTopics("fg-four"), kgo.Balancers(kgo.CooperativeStickyBalancer()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(100*time.Millisecond),
			kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(200*time.Millisecond),
			kgo.OnPartitionsAssigned(note(true)), kgo.OnPartitionsRevoked(note(false)), kgo.OnPartitionsLost(note(false)),
		)
		go func() {
			for {
				fetches := made.PollFetches(ctx)
				if fetches.IsClientClosed() || ctx.Err() != nil {
					return
				}
				fetches.EachRecord(func(r *kgo.Record) {
					mutex.Lock()
					read[fmt.Sprint(r.Partition, "/", r.Offset)]++
					mutex.Unlock()
					made.MarkCommitRecords(r)
				})
			}
		}()
		return made
	}
	until := func(what string, condition func() bool) {
		for deadline := time.Now().Add(25 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			mutex.Lock()
			holds := condition()
			mutex.Unlock()
			if holds {
				fmt.Println(what)
				return
			}
		}
		fmt.Println("never:", what)
	}
	shared := func(counts ...int) func() bool {
		return func() bool {
			for index, count := range counts {
				if len(shares[index]) != count {
					return false
				}
			}
			return true
		}
	}
	first := member(0)
	until("one has everything", shared(6))
	second := member(1)
	until("two have three each", shared(3, 3))
	third := member(2)
	until("three have two each", shared(2, 2, 2))
	until("everything is read", func() bool { return len(read) == 605 })
	section("groups, described")
	described, err := admin.DescribeGroups(ctx, "fg-group")
	must(err)
	for _, group := range described.Sorted() {
		fmt.Println(group.State, group.ProtocolType, group.Protocol, group.Coordinator.NodeID, named(group.Err), len(group.Members))
	}
	third.Close()
	section("groups, one left")
	until("two have three each", shared(3, 3))
	mutex.Lock()
	twice := 0
	for _, count := range read {
		if count > 1 {
			twice++
		}
	}
	mutex.Unlock()
	fmt.Println("read twice", twice)
	first.Close()
	second.Close()
	section("groups, lag")
	lags, err := admin.Lag(ctx, "fg-group")
	must(err)
	for _, group := range lags.Sorted() {
		fmt.Println(group.Group, group.State, group.Lag.Total(), named(group.Error()))
	}
	section("groups, offsets")
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: "fg-four", Partition: 2, At: 5, LeaderEpoch: -1, Metadata: "a note"})
	fmt.Println(named(admin.CommitAllOffsets(ctx, "fg-group", offsets)))
	fetched, err := admin.FetchOffsets(ctx, "fg-group")
	must(err)
	for _, offset := range fetched.Sorted() {
		fmt.Println(offset.Topic, offset.Partition, offset.At, offset.Metadata, named(offset.Err))
	}
	gone := kadm.TopicsSet{}
	gone.Add("fg-four", 2)
	gone.Add("fg-nowhere", 0)
	removed, err := admin.DeleteOffsets(ctx, "fg-group", gone)
	must(err)
	removed.EachError(func(topic string, partition int32, err error) { fmt.Println(topic, partition, named(err)) })
	section("groups, delete")
	deletedGroups, err := admin.DeleteGroups(ctx, "fg-group", "fg-nobody")
	must(err)
	for _, group := range deletedGroups.Sorted() {
		fmt.Println(group.Group, named(group.Err))
	}
}

func offsets() {
	show := func(what string, listed kadm.ListedOffsets, err error) {
		must(err)
		for _, offset := range listed.Offsets().Sorted() {
			fmt.Println(what, offset.Partition, offset.At)
		}
		fmt.Println(what, named(listed.Error()))
	}
	section("offsets")
	listed, err := admin.ListStartOffsets(ctx, "fg-four")
	show("start", listed, err)
	listed, err = admin.ListEndOffsets(ctx, "fg-four")
	show("end", listed, err)
	listed, err = admin.ListCommittedOffsets(ctx, "fg-four")
	show("committed", listed, err)
	listed, err = admin.ListOffsetsAfterMilli(ctx, start+300, "fg-four")
	show("after", listed, err)
	section("offsets, delete records")
	cut := kadm.Offsets{}
	cut.Add(kadm.Offset{Topic: "fg-four", Partition: 0, At: 10})
	cut.Add(kadm.Offset{Topic: "fg-four", Partition: 1, At: 100_000})
	deleted, err := admin.DeleteRecords(ctx, cut)
	must(err)
	for _, one := range deleted.Sorted() {
		fmt.Println(one.Partition, one.LowWatermark, named(one.Err))
	}
}

func cluster() {
	section("cluster")
	metadata, err := admin.BrokerMetadata(ctx)
	must(err)
	fmt.Println(len(metadata.Cluster) > 0, metadata.Controller, metadata.Brokers.NodeIDs())
	section("log dirs")
	set := kadm.TopicsSet{}
	set.Add("fg-four", 0, 1, 2, 3, 4, 5)
	dirs, err := admin.DescribeAllLogDirs(ctx, set)
	must(err)
	dirs.Each(func(dir kadm.DescribedLogDir) {
		partitions := 0
		dir.Topics.Each(func(kadm.DescribedLogDirPartition) { partitions++ })
		fmt.Println(dir.Broker, named(dir.Err), partitions, dir.Size() > 0)
	})
	section("transactions")
	transactional, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.TransactionalID("fg"), kgo.RetryTimeout(5*time.Second))
	must(err)
	err = transactional.BeginTransaction()
	if err == nil {
		err = transactional.ProduceSync(ctx, &kgo.Record{Topic: "fg-four", Value: []byte("x")}).FirstErr()
	}
	fmt.Println(named(err))
	transactional.Close()
}

func main() {
	brokers = os.Args[1]
	var cancel context.CancelFunc
	ctx, cancel = context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	admin = kadm.NewClient(client())
	defer admin.Close()
	for _, part := range []func(){topics, configs, records, groups, offsets, cluster} {
		part()
	}
}
