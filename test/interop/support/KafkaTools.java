import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs many of Kafka's command-line tools in one JVM, for a JVM's start costs more than what most of them do.
 *
 * Reads commands, one a line: {@code id TAB class TAB stdin TAB argument …}, stdin and arguments in base64;
 * {@code id TAB !stop} is what SIGTERM is to a process. Answers each with {@code id TAB exit code TAB stdout TAB
 * stderr}. Every command runs in a thread of its own, and what its threads print is its own; it ends as a
 * process would, by the exit code of its first {@code Exit.exit}, after its shutdown hooks have run.
 */
public final class KafkaTools {
    /** Thrown where a process would end. An Error, as the tools catch Exception. */
    private static final class Ended extends Error {
        Ended() {
            super("exit", null, false, false);
        }
    }

    private static final class Command {
        final String id;
        final ByteArrayOutputStream out = new ByteArrayOutputStream();
        final ByteArrayOutputStream err = new ByteArrayOutputStream();
        final InputStream in;
        final List<Runnable> hooks = new ArrayList<>();
        Integer code;

        Command(String id, byte[] stdin) {
            this.id = id;
            this.in = new ByteArrayInputStream(stdin);
        }

        synchronized void ends(int exitCode) {
            if (code == null) code = exitCode;
        }

        void runHooks() {
            List<Runnable> mine;
            synchronized (hooks) {
                mine = new ArrayList<>(hooks);
                hooks.clear();
            }
            for (Runnable hook : mine) {
                try {
                    hook.run();
                } catch (Throwable error) {
                    error.printStackTrace();
                }
            }
        }
    }

    /** Inherited by the threads that a tool starts. */
    private static final InheritableThreadLocal<Command> CURRENT = new InheritableThreadLocal<>();
    private static final Map<String, Command> RUNNING = new ConcurrentHashMap<>();
    private static final PrintStream ANSWERS = System.out;
    private static final PrintStream COMPLAINTS = System.err;
    private static final InputStream COMMANDS = System.in;

    private static final class Output extends OutputStream {
        private final boolean error;

        Output(boolean error) {
            this.error = error;
        }

        private OutputStream current() {
            Command command = CURRENT.get();
            if (command == null) return COMPLAINTS;
            return error ? command.err : command.out;
        }

        @Override
        public void write(int value) throws IOException {
            current().write(value);
        }

        @Override
        public void write(byte[] bytes, int from, int length) throws IOException {
            current().write(bytes, from, length);
        }
    }

    private static final class Input extends InputStream {
        @Override
        public int read() throws IOException {
            return CURRENT.get().in.read();
        }

        @Override
        public int read(byte[] bytes, int from, int length) throws IOException {
            return CURRENT.get().in.read(bytes, from, length);
        }
    }

    private static void run(Command command, String type, String[] args) {
        CURRENT.set(command);
        try {
            Class.forName(type).getMethod("main", String[].class).invoke(null, (Object) args);
            command.ends(0);
        } catch (InvocationTargetException wrapped) {
            if (!(wrapped.getCause() instanceof Ended)) {
                wrapped.getCause().printStackTrace();
                command.ends(1);
            }
        } catch (ReflectiveOperationException error) {
            error.printStackTrace();
            command.ends(1);
        }
        command.runHooks();
        RUNNING.remove(command.id);
        System.out.flush();
        System.err.flush();
        Base64.Encoder base64 = Base64.getEncoder();
        synchronized (ANSWERS) {
            ANSWERS.println(command.id + "\t" + command.code + "\t" + base64.encodeToString(command.out.toByteArray())
                + "\t" + base64.encodeToString(command.err.toByteArray()));
            ANSWERS.flush();
        }
    }

    private static Thread daemon(Runnable body) {
        Thread thread = new Thread(body);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    public static void main(String[] none) throws IOException {
        System.setOut(new PrintStream(new Output(false), true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(new Output(true), true, StandardCharsets.UTF_8));
        System.setIn(new Input());
        Exit.Procedure exit = (code, message) -> {
            CURRENT.get().ends(code);
            throw new Ended();
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Exit.setShutdownHookAdder((name, hook) -> {
            Command command = CURRENT.get();
            synchronized (command.hooks) {
                command.hooks.add(hook);
            }
        });
        Base64.Decoder base64 = Base64.getDecoder();
        BufferedReader commands = new BufferedReader(new InputStreamReader(COMMANDS, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] fields = line.split("\t", -1);
            if (fields[1].equals("!stop")) {
                Command command = RUNNING.get(fields[0]);
                if (command != null) daemon(() -> {
                    CURRENT.set(command);
                    command.ends(143);
                    command.runHooks();
                });
                continue;
            }
            Command command = new Command(fields[0], base64.decode(fields[2]));
            RUNNING.put(command.id, command);
            String[] args = new String[fields.length - 3];
            for (int index = 0; index < args.length; index++) {
                args[index] = new String(base64.decode(fields[index + 3]), StandardCharsets.UTF_8);
            }
            daemon(() -> run(command, fields[1], args));
        }
        System.exit(0);
    }
}
