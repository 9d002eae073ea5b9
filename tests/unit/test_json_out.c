#include "unit.h"

#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/json_in.h"
#include "cli/json_out.h"

/* @o as --json writes it is @wanted, with ' for ".  Releases it. */
static void assert_json(struct json_object *o, const char *wanted)
{
    AUTO(mem_free) char *text = strdup(wanted);

    for (char *c = text; *c != '\0'; c++)
        if (*c == '\'')
            *c = '"';
    assert_string_equal(json_object_to_json_string_ext(
                            o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
                        text);
    json_object_put(o);
}

static void json_out__progress_has_every_field(void **state)
{
    struct move_progress p = {
        .phase = MOVE_MEMORY,
        .domain = "web01",
        .dest = "hostb",
        .elapsed_ms = 1234,
        .round = 3,
        .disks = { { "vda", 1000, 200, 50, 7, 5, 2.6, 1.2, 9000 } },
        .ndisks = 1,
        .ram = { "RAM", 4000, 4000, 1000, 300, 0, 10, 20, 0 },
        .sent = 5,
        .sent_rate = 6,
        .ratio = 2.1,
        .rtt_us = 1240,
        .predicted_pause_ms = 210,
        .budget_ms = 300,
        .rate_limit = 50000000,
        .guest_write_ms = 3.1,
        .held = true,
        .eta_ms = 90,
        .trend = MOVE_TREND_CONVERGING,
        .decision = "wait",
        .why = "because",
        .cpus_held = 25,
    };

    (void)state;
    assert_json(
        json_out_progress(&p),
        "{'type':'progress','phase':'memory','domain':'web01','destination':'hostb',"
        "'elapsed_ms':1234,'round':3,'disks':[{'name':'vda','size':1000,'total':200,"
        "'done':50,'dirty':7,'hot':5,'rate':3,'dirty_rate':1,'limit':9000}],"
        "'ram':{'name':'RAM','size':4000,'total':4000,'done':1000,'dirty':300,"
        "'hot':0,'rate':10,'dirty_rate':20,'limit':null},"
        "'sent':5,'sent_rate':6,'ratio':2.10,'rtt_us':1240,"
        "'predicted_pause_ms':210,'budget_ms':300,'rate_limit':50000000,"
        "'guest_write_us':3100,'held':true,'eta_ms':90,"
        "'trend':'converging','decision':'wait','why':'because','cpus_held':25}");
}

static void json_out__unknown_is_null(void **state)
{
    struct move_progress p = {
        .phase = MOVE_BULK,
        .disks = { { .name = "vda", .rate = 0.0 / 0.0, .dirty_rate = -1 } },
        .ndisks = 1,
        .ratio = 1,
        .rtt_us = -1,
        .predicted_pause_ms = -1,
        .eta_ms = -1,
    };

    (void)state;
    assert_json(json_out_progress(&p),
                "{'type':'progress','phase':'bulk','domain':'','destination':'',"
                "'elapsed_ms':0,'round':0,'disks':[{'name':'vda','size':0,'total':0,"
                "'done':0,'dirty':0,'hot':0,'rate':null,'dirty_rate':null,"
                "'limit':null}],'ram':null,"
                "'sent':0,'sent_rate':0,'ratio':1.00,'rtt_us':null,"
                "'predicted_pause_ms':null,'budget_ms':0,'rate_limit':0,"
                "'guest_write_us':null,'held':false,'eta_ms':null,"
                "'trend':'unknown','decision':'','why':'','cpus_held':0}");
}

static void json_out__finding_has_every_field(void **state)
{
    struct finding f = { FINDING_BLOCKER, "target-exists", "it is there",
                         "Remove it." };

    (void)state;
    assert_json(json_out_finding(&f),
                "{'type':'finding','level':'blocker','code':'target-exists',"
                "'what':'it is there','next':'Remove it.'}");
    f = (struct finding){ FINDING_WARNING, "x", "y", "" };
    assert_json(json_out_finding(&f),
                "{'type':'finding','level':'warning','code':'x','what':'y','next':''}");
}

static const struct move_cfg cfg = { .domain = "7",
                                     .dest_text = "root@hostb",
                                     .max_downtime_ms = 300 };
static struct move_result result;

static void json_out__result_has_every_field(void **state)
{
    (void)state;
    result = (struct move_result){
        .status = 0,
        .where = MOVE_AT_DESTINATION,
        .state = "running",
        .pause_ms = 87,
        .budget_ms = 300,
        .pause = { { 2, 30, 3, 9, 0, 5, 20, 10, 8 }, 87 },
        .greeting = { .done = { { "announced" }, 1 }, .failed = { { "no clock" }, 1 } },
        .elapsed_ms = 192000,
        .rounds = 4,
        .retries = 2,
        .redials = 1,
        .disk_bytes = 10,
        .ram_bytes = 20,
        .sent = 30,
        .received = 40,
        .verified = { true, 60, 55, 5, 4, "" },
        .id = "0123456789abcdef0123456789abcdef",
        .domain = "web01",
        .uuid = "6a1d5c1e-0f6b-4f0e-9d3f-2f2b8c8f8a11",
        .source_host = "hosta",
        .dest_host = "hostb.example",
        .disks = { { "vda",
                     "/a/x.img",
                     "/b/x.img",
                     "raw",
                     50,
                     { true, 60, 55, 5, 4, "0a1b" } } },
        .ndisks = 1,
        .left = { { "do this" }, 1 },
        .notes = { { "kept that", "and that" }, 2 },
    };
    assert_json(
        json_out_result(&cfg, &result),
        "{'type':'result','status':0,'check':false,'guest_location':'destination',"
        "'guest_state':'running','domain':'web01',"
        "'uuid':'6a1d5c1e-0f6b-4f0e-9d3f-2f2b8c8f8a11','source':'hosta',"
        "'destination':'hostb.example','id':'0123456789abcdef0123456789abcdef',"
        "'pause_ms':87,'pause':{'suspend':2,'last_round':30,'flush':3,'close':9,"
        "'memory':0,'release':5,'load':20,'source_dead':10,'resume':8},"
        "'budget_ms':300,'forecast':null,'forecast_at_ms':null,'elapsed_ms':192000,'"
        "rounds':4,'retries':2,'redials':1,"
        "'disk_bytes':10,'ram_bytes':20,'sent':30,'received':40,'kept':null,"
        "'verified':{'compared':60,'alike':55,'differing':5,'repaired':4},"
        "'disks':[{'target':'vda','source_path':'/a/x.img',"
        "'destination_path':'/b/x.img','format':'raw','size':50,"
        "'verified':{'compared':60,'alike':55,'differing':5,'repaired':4,"
        "'digest':'0a1b'}}],"
        "'left':['do this'],'notes':['kept that','and that'],"
        "'arrival':{'done':['announced'],'failed':['no clock']},'error':null}");
}

static void json_out__failed_result_says_why(void **state)
{
    struct move_cfg check = cfg;

    (void)state;
    check.check_only = true;
    result = (struct move_result){ .status = 9,
                                   .where = MOVE_UNKNOWN,
                                   .pause_ms = -1,
                                   .budget_ms = 300,
                                   .kept_bytes = 5,
                                   .kept_size = 9,
                                   .pause = { .total_ms = -1 } };
    err_set(&result.err, ERR_CONNECT, 111, "hostb");
    err_next(&result.err, "Look there.");
    assert_json(
        json_out_result(&check, &result),
        "{'type':'result','status':9,'check':true,'guest_location':'unknown',"
        "'guest_state':'','domain':'7','uuid':'','source':'',"
        "'destination':'root@hostb','id':'','pause_ms':null,'pause':null,'budget_ms':"
        "300,"
        "'forecast':null,'forecast_at_ms':null,"
        "'elapsed_ms':0,'rounds':0,'retries':0,'redials':0,'disk_bytes':0,'ram_bytes':"
        "0,'sent':0,"
        "'received':0,'kept':{'bytes':5,'size':9},'verified':null,'disks':[],'left':[],"
        "'notes':[],"
        "'arrival':{'done':[],'failed':[]},'error':{'kind':'connect',"
        "'errno':111,'what':'hostb: Connection refused','next':'Look there.'}}");
}

static struct forecast foreseen(void)
{
    return (struct forecast){ .made = true,
                              .converges = false,
                              .total_ms = 200000,
                              .pause_ms = 740,
                              .rounds = 5,
                              .disk_bytes = 1000,
                              .ram_bytes = 300,
                              .sent = 650,
                              .in = { .disk_bytes = 900,
                                      .ram_bytes = 200,
                                      .disk = { 10, 40 },
                                      .ram = { 20, 0 },
                                      .disk_rate = 7.4,
                                      .ram_rate = 8,
                                      .disk_ratio = 2,
                                      .ram_ratio = 1.5,
                                      .budget_ms = 300 },
                              .needs_downtime_ms = 1000 };
}

#define FORESEEN \
    "'converges':false,'total_ms':200000,'pause_ms':740,'budget_ms':300,'rounds':5," \
    "'disk_bytes':1000,'ram_bytes':300,'sent':650,'data':900,'memory':200," \
    "'disk_rate':7,'ram_rate':8,'disk_ratio':2.00,'ram_ratio':1.50," \
    "'disk_writes':{'rate':10,'working_set':40}," \
    "'ram_writes':{'rate':20,'working_set':null}," \
    "'needs_downtime_ms':1000,'needs_rate':null"

static void json_out__forecast_has_every_field(void **state)
{
    const struct forecast f = foreseen();

    (void)state;
    assert_json(json_out_forecast(&f), "{" FORESEEN ",'type':'forecast'}");
}

static void json_out__result_has_the_forecast_of_the_move(void **state)
{
    (void)state;
    result = (struct move_result){ .forecast = foreseen(), .forecast_at_ms = 4000 };
    AUTO(json_put) struct json_object *o = json_out_result(&cfg, &result);
    struct json_object *f;

    assert_true(json_object_object_get_ex(o, "forecast", &f));
    assert_json(json_object_get(f), "{" FORESEEN "}");
    assert_true(json_object_object_get_ex(o, "forecast_at_ms", &f));
    assert_int_equal(json_object_get_int(f), 4000);
}

static void json_out__foreign_strings_are_cleaned(void **state)
{
    const struct finding f = { FINDING_WARNING, "x", "a\033[31m\n\xff\"\\", "" };

    (void)state;
    assert_json(json_out_finding(&f),
                "{'type':'finding','level':'warning','code':'x',"
                "'what':'a\\\\x1b[31m\\\\x0a\\\\xff\\'\\\\','next':''}");
}

static void json_out__write_is_one_line(void **state)
{
    AUTO(fd_close) int in = -1;
    AUTO(fd_close) int out = -1;
    char text[100] = "";
    int ends[2];
    struct err e;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    in = ends[0];
    out = ends[1];
    assert_ok(json_out_write(out, json_add_str(json_new(), "path", "/a/b\n"), &e), e);
    assert_true(read(in, text, sizeof text - 1) > 0);
    assert_string_equal(text, "{\"path\":\"/a/b\\n\"}\n");
}

/* What a running move writes, another snmigrate reads. */
static void json_out__progress_can_be_read_back(void **state)
{
    static struct move_progress p, q;
    struct err e;

    (void)state;
    p = (struct move_progress){
        .phase = MOVE_MEMORY,
        .domain = "web\xc3\xa4",
        .dest = "hostb",
        .elapsed_ms = 1234,
        .round = 3,
        .disks = { { "vda", 100, 90, 80, 7, 6, 1e6, -1 } },
        .ndisks = 1,
        .ram = { "RAM", 50, 40, 30, 10, 0, 2e6, 3e6 },
        .sent = 77,
        .sent_rate = 5e6,
        .ratio = 1.5,
        .rtt_us = -1,
        .predicted_pause_ms = 210,
        .budget_ms = 300,
        .rate_limit = 1000000,
        .guest_write_ms = 3.5,
        .held = true,
        .eta_ms = -1,
        .trend = MOVE_TREND_STEADY,
        .why = "because",
    };
    AUTO(json_put) struct json_object *o = json_out_progress(&p);
    assert_true(json_in_progress(o, &q, &e));
    assert_memory_equal(&p, &q, sizeof p);

    /* Without any one of its members it is refused, or the member is optional; with one of
     * another type, too; never a crash. */
    static const char *const keys[] = { "phase", "domain", "disks", "ram",   "sent",
                                        "trend", "why",    "held",  "rtt_us" };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        AUTO(json_put) struct json_object *bad = json_out_progress(&p);

        json_object_object_add(bad, keys[i], json_object_new_double(-0.5));
        assert_int_equal(json_in_progress(bad, &q, &e), strcmp(keys[i], "rtt_us") == 0);
    }
    assert_int_equal(q.rtt_us, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(json_out__progress_has_every_field),
        TEST(json_out__unknown_is_null),
        TEST(json_out__finding_has_every_field),
        TEST(json_out__result_has_every_field),
        TEST(json_out__failed_result_says_why),
        TEST(json_out__progress_can_be_read_back),
        TEST(json_out__forecast_has_every_field),
        TEST(json_out__result_has_the_forecast_of_the_move),
        TEST(json_out__foreign_strings_are_cleaned),
        TEST(json_out__write_is_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
