"""What code of a model might try: each snippet prints ESCAPED where it gets what it should not, and ends in a bounded time.

``{port}``, ``{project}``, ``{home}``, ``{secret}``, ``{parent}`` and ``{driver}`` stand for things outside that are really there.
"""

from __future__ import annotations

from typing import NamedTuple


class Snippet(NamedTuple):
    """A name, the code, and what the model is told, as a regular expression."""

    name: str
    code: str
    says: str = ""


TRY = """
def attempt(work):
    try:
        value = work()
    except BaseException as error:
        print(type(error).__name__)
    else:
        print("ESCAPED", value)
"""
LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"

SNIPPETS = [
    # The network, by name and by number, and what is no network to a namespace.
    Snippet("tcp to this machine", TRY + "import socket\nattempt(lambda: socket.create_connection(('127.0.0.1', {port}), 2))", "Error"),
    Snippet("tcp to the world", TRY + "import socket\nattempt(lambda: socket.create_connection(('1.1.1.1', 53), 2))", "Error"),
    Snippet("names of hosts", TRY + "import socket\nattempt(lambda: socket.getaddrinfo('pypi.org', 443))", "gaierror|Error"),
    Snippet("a page", TRY + "import urllib.request\nattempt(lambda: urllib.request.urlopen('http://127.0.0.1:{port}', timeout=2).read())", "Error"),
    Snippet("a server", TRY + "import socket\nattempt(lambda: socket.create_server(('0.0.0.0', 0)))", "Error"),
    Snippet("vsock", TRY + "import socket\nattempt(lambda: socket.socket(40, socket.SOCK_STREAM))", "Error"),
    Snippet("netlink", TRY + "import socket\nattempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))", "Error"),
    Snippet("raw packets", TRY + "import socket\nattempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))", "Error"),
    Snippet("a unix socket outside", TRY + "import socket\nattempt(lambda: socket.socket(socket.AF_UNIX).connect('{socket}'))", "Error"),
    Snippet("an abstract unix socket", TRY + "import socket\nattempt(lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + '{abstract}'))", "Error"),
    # Processes without end.
    Snippet("fork bomb", "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", "Error"),
    Snippet("fork bomb, every child stays", "import os, time\nfor _ in range(10000):\n    if os.fork() == 0:\n        time.sleep(100)", "BlockingIOError|TimeoutError"),
    Snippet("threads without end", "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(100,)).start()", "Error"),
    Snippet("a child of a child that left", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n    os._exit(0)\nprint('gone')", "gone"),
    Snippet("a daemon that ignores signals", "import os, signal, time\nif os.fork() == 0:\n    for s in range(1, 65):\n        try: signal.signal(s, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    while True: time.sleep(1)\nprint('gone')", "gone"),
    Snippet("a child that writes later", "import os, time\nif os.fork() == 0:\n    time.sleep(0.3)\n    open('/tmp/late', 'w').write('x')\nprint('gone')", "gone"),
    Snippet("a thread that goes on", "import threading, time\ndef on():\n    while True:\n        print('on')\n        time.sleep(0.01)\nthreading.Thread(target=on, daemon=True).start()\n'left'", "left"),
    Snippet("a shell", TRY + "import subprocess\nattempt(lambda: subprocess.run(['sh', '-c', 'id'], check=True))", "FileNotFoundError"),
    Snippet("os.system", TRY + "import os\nprint('status', os.system('id'))", "status"),
    Snippet("python in python", "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\nprint('gone')", "gone"),
    Snippet("a pool of processes", "import multiprocessing as m, time\nm.Pool(4).map_async(time.sleep, [1000] * 4)\nprint('gone')", "gone"),
    # Time.
    Snippet("a loop", "while True: pass", "TimeoutError"),
    Snippet("a loop that bears everything", "while True:\n    try:\n        while True: pass\n    except BaseException: pass", "TimeoutError"),
    Snippet("a loop in C", "sum(range(10 ** 15))", "TimeoutError"),
    Snippet("a loop in many children", "import os\nfor _ in range(4): os.fork()\nwhile True: pass", "TimeoutError|BlockingIOError"),
    Snippet("sleep", "import time\ntime.sleep(10 ** 6)", "TimeoutError"),
    Snippet("sleep that ignores signals", "import signal, time\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: time.sleep(1)", "TimeoutError"),
    Snippet("a lock that is held", "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", "TimeoutError"),
    Snippet("a pattern", "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')", "TimeoutError"),
    Snippet("a power", "len(str(7 ** 10 ** 9))", "TimeoutError|MemoryError|ValueError"),
    Snippet("a factor", "9 ** 9 ** 9 ** 9", "TimeoutError|MemoryError|OverflowError"),
    Snippet("input", "input('name?')", "EOFError"),
    Snippet("reading the input", "import sys\nsys.stdin.read()\nprint('nothing')", "nothing|Error"),
    # Memory.
    Snippet("a list", "held = []\nwhile True: held.append(bytearray(1 << 20))", "MemoryError"),
    Snippet("at once", "bytearray(1 << 40)", "MemoryError"),
    Snippet("a text", "'x' * (1 << 36)", "MemoryError"),
    Snippet("in C", LIBC + "libc.malloc.restype = ctypes.c_void_p\nlibc.malloc.argtypes = [ctypes.c_size_t]\nn = 0\nwhile (p := libc.malloc(1 << 26)):\n    ctypes.memset(p, 1, 1 << 26)\n    n += 1\nprint('no more')", "no more|MemoryError"),
    Snippet("in many processes", "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        held = [bytearray(b'x' * (1 << 20)) for _ in range(120)]\n        time.sleep(100)\ntime.sleep(100)", "MemoryError|TimeoutError"),
    Snippet("shared between processes", "import mmap, os, time\nheld = [mmap.mmap(-1, 1 << 26) for _ in range(2)]\nfor _ in range(6):\n    if os.fork() == 0:\n        own = mmap.mmap(-1, 1 << 26)\n        own.write(b'x' * (1 << 26))\n        time.sleep(100)\ntime.sleep(100)", "MemoryError|TimeoutError"),
    Snippet("memory as a file", TRY + "import os\nattempt(lambda: os.memfd_create('x'))", "PermissionError"),
    Snippet("memory of System V", LIBC + "print('ESCAPED' if libc.shmget(0, 1 << 20, 0o1777) >= 0 else 'refused')", "refused"),
    Snippet("a deep recursion", "def f(): return f()\nf()", "RecursionError"),
    Snippet("a recursion that is allowed", "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(n): return f(n + 1) + str(n).__len__()\nf(0)", "Error"),
    Snippet("a nested literal", "eval('(' * 10 ** 5 + ')' * 10 ** 5)", "Error"),
    # Files.
    Snippet("fill the disk", "with open('/tmp/x', 'wb') as f:\n    while True: f.write(b'x' * (1 << 20))", "OSError"),
    Snippet("fill the disk by files", "n = 0\nwhile True:\n    open(f'/tmp/{n}', 'wb').write(b'x' * (1 << 19))\n    n += 1", "OSError"),
    Snippet("files without bytes", "n = 0\nwhile True:\n    open(f'/tmp/{n}', 'w').close()\n    n += 1", "OSError"),
    Snippet("shared memory as files", "n = 0\nwhile True:\n    open(f'/dev/shm/{n}', 'wb').write(b'x' * (1 << 19))\n    n += 1", "OSError"),
    Snippet("a file with a hole", "import os\nos.truncate(open('/tmp/x', 'w').fileno(), 1 << 40)", "OSError"),
    Snippet("open files", "held = []\nwhile True: held.append(open('/dev/null'))", "OSError"),
    Snippet("write the root", TRY + "attempt(lambda: open('/x', 'w'))", "OSError"),
    Snippet("write the libraries", TRY + "attempt(lambda: open('/usr/lib/x', 'w'))", "OSError|PermissionError"),
    Snippet("write the interpreter", TRY + "attempt(lambda: open('/python/driver.py', 'a'))", "OSError|PermissionError"),
    Snippet("write a package", TRY + "attempt(lambda: open('/python/packages/sitecustomize.py', 'w'))", "OSError|PermissionError"),
    Snippet("write a device", TRY + "attempt(lambda: open('/dev/sda', 'wb'))", "OSError|PermissionError"),
    Snippet("the project", TRY + "import os\nattempt(lambda: os.listdir('{project}'))", "FileNotFoundError"),
    Snippet("the home", TRY + "import os\nattempt(lambda: os.listdir('{home}'))", "FileNotFoundError"),
    Snippet("passwords", TRY + "attempt(lambda: open('/etc/passwd').read())", "FileNotFoundError"),
    Snippet("the environment", "import os\nprint('ESCAPED' if '{secret}' in str(dict(os.environ)) else sorted(os.environ))", "HOME"),
    Snippet("the environment in memory", LIBC + "libc.getenv.restype = ctypes.c_char_p\nprint('ESCAPED' if libc.getenv(b'PATHPRUNE_TEST_SECRET') else 'none')", "none"),
    Snippet("a link to outside", TRY + "import os\nos.symlink('{project}', '/tmp/link')\nattempt(lambda: os.listdir('/tmp/link'))", "FileNotFoundError"),
    Snippet("up and up", TRY + "import os\nattempt(lambda: os.listdir('/tmp/' + '../' * 40 + '{project}'))", "FileNotFoundError"),
    Snippet("a folder that is left by chroot", TRY + "import os\nos.makedirs('/tmp/a')\nattempt(lambda: os.chroot('/tmp/a'))", "PermissionError"),
    Snippet("descriptors of others", "import os, stat\nfor n in range(3, 256):\n    try:\n        mode = os.fstat(n).st_mode\n    except OSError:\n        continue\n    if not stat.S_ISFIFO(mode): print('ESCAPED', n, oct(mode))\nprint('none')", "none"),
    Snippet("/proc of another", TRY + "attempt(lambda: open('/proc/{parent}/environ').read())", "FileNotFoundError"),
    Snippet("/proc itself", TRY + "import os\nattempt(lambda: os.readlink('/proc/self/root'))", "FileNotFoundError"),
    Snippet("/sys", TRY + "import os\nattempt(lambda: os.listdir('/sys'))", "FileNotFoundError"),
    Snippet("devices", "import os\nprint('ESCAPED' if set(os.listdir('/dev')) - {{'null', 'zero', 'full', 'random', 'urandom', 'shm'}} else 'few')", "few"),
    Snippet("make a device", TRY + "import os, stat\nattempt(lambda: os.mknod('/tmp/sda', stat.S_IFBLK | 0o666, os.makedev(254, 0)))", "PermissionError"),
    Snippet("a program that becomes root", "import os, shutil, subprocess\nshutil.copy('/python/bin/python3', '/tmp/p')\ntry: os.chmod('/tmp/p', 0o6755)\nexcept OSError as error: print(error)\ndone = subprocess.run(['/tmp/p', '-S', '-c', 'import os; print(os.geteuid(), os.getegid())'], capture_output=True, text=True, env=dict(os.environ, PYTHONHOME='/python'))\nprint('ESCAPED' if '0' in done.stdout.split() else 'no')", "no"),
    # The kernel.
    Snippet("become root", TRY + "import os\nattempt(lambda: os.setuid(0))", "PermissionError|OSError"),
    Snippet("a namespace of users", LIBC + "print('ESCAPED' if libc.unshare(0x10000000) == 0 else 'refused')", "refused"),
    Snippet("a namespace by clone", LIBC + "print('ESCAPED' if libc.syscall(56, 0x10000011, 0, 0, 0, 0) >= 0 else 'refused')", "refused"),
    Snippet("mount", LIBC + "print('ESCAPED' if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0 else 'refused')", "refused"),
    Snippet("umount", LIBC + "print('ESCAPED' if libc.umount2(b'/tmp', 2) == 0 else 'refused')", "refused"),
    Snippet("trace the first process", LIBC + "print('ESCAPED' if libc.ptrace(16, 1, 0, 0) == 0 else 'refused')", "refused"),
    Snippet("trace oneself", LIBC + "print('ESCAPED' if libc.ptrace(0, 0, 0, 0) == 0 else 'refused')", "refused"),
    Snippet("another's memory", LIBC + "print('ESCAPED' if libc.process_vm_readv(1, 0, 0, 0, 0, 0) >= 0 else 'refused')", "refused"),
    Snippet("keys of the kernel", LIBC + "print('ESCAPED' if libc.syscall(250, 0, -3, 0, 0, 0) >= 0 else 'refused')", "refused"),
    Snippet("io_uring", LIBC + "print('ESCAPED' if libc.syscall(425, 8, ctypes.create_string_buffer(120)) >= 0 else 'refused')", "refused"),
    Snippet("bpf", LIBC + "print('ESCAPED' if libc.syscall(321, 0, 0, 0) >= 0 or ctypes.get_errno() != 1 else 'refused')", "refused"),
    Snippet("calls of x32", LIBC + "print('ESCAPED' if libc.syscall(0x40000000 + 39) >= 0 else 'refused')", "refused"),
    Snippet("limits", TRY + "import resource\nattempt(lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)))", "ValueError|PermissionError"),
    Snippet("capabilities", LIBC + "print('ESCAPED' if any(libc.prctl(47, 2, c, 0, 0) == 0 for c in range(40)) else 'none')", "none"),
    Snippet("the name of the host", TRY + "import socket\nattempt(lambda: socket.sethostname('mine'))", "PermissionError"),
    Snippet("the clock", TRY + "import time\nattempt(lambda: time.clock_settime(time.CLOCK_REALTIME, 0))", "PermissionError"),
    # Signals.
    Snippet("kill the first process", "import os, signal\ntry: os.kill(1, signal.SIGKILL)\nexcept OSError as error: print(error)\nprint('alive')", "alive"),
    Snippet("kill the harness", "import os, signal\nfor pid in ({parent}, {driver}):\n    try:\n        os.kill(pid, signal.SIGKILL)\n        if pid > 99: print('ESCAPED')\n    except OSError as error: print(type(error).__name__)", "ProcessLookupError|SIGKILL"),
    Snippet("kill everybody", "import os\ntry: os.kill(-1, 9)\nexcept OSError: pass\nprint('alone')", "alone"),
    Snippet("kill oneself", "import os\nos.kill(os.getpid(), 9)", "SIGKILL"),
    Snippet("an alarm", "import signal, time\nsignal.alarm(1)\ntime.sleep(2)", "SIGALRM"),
    Snippet("stop oneself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "TimeoutError"),
    # The interpreter.
    Snippet("leave", "import os\nos._exit(7)", "status 7"),
    Snippet("exit", "exit(3)", "SystemExit"),
    Snippet("leave later", "import atexit\natexit.register(print, 'late')\n'registered'", "registered"),
    Snippet("crash", "import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    Snippet("abort", LIBC + "libc.abort()", "SIGABRT"),
    Snippet("jump into data", "import ctypes\nctypes.CFUNCTYPE(None)(4096)()", "SIGSEGV"),
    Snippet("close every descriptor", "import os\nos.closerange(0, 1024)", "InterpreterError"),
    Snippet("close what it prints to", "import os\nos.close(1)\nprint('x')", ""),
    Snippet("a forged reply", "import os, struct\nfor n in range(3, 64):\n    try: os.write(n, struct.pack('>I', 2) + b'{{}}')\n    except OSError: pass\nwhile True: pass", "InterpreterError"),
    Snippet("a reply without end", "import os\nfor n in range(3, 64):\n    try: os.write(n, b'\\xff' * 65536)\n    except OSError: pass", "InterpreterError"),
    Snippet("its own reply, early", "import os, sys, struct, json, threading\nf = sys._getframe()\nwhile f:\n    if 'request' in f.f_locals:\n        r = json.dumps({{'id': f.f_locals['request']['id']}}).encode()\n        os.write(f.f_locals['send'], struct.pack('>I', len(r)) + r)\n    f = f.f_back\nwhile True: pass", ""),
    Snippet("reading its requests", "import os\nfor n in range(3, 64):\n    try: print(os.read(n, 1))\n    except OSError: pass", "TimeoutError|InterpreterError"),
    Snippet("other builtins", "import builtins\nfor name in ('print', 'repr', 'compile', 'exec', 'eval', 'len', 'isinstance', 'open'):\n    setattr(builtins, name, lambda *a, **k: 1 / 0)", ""),
    Snippet("another json", "import json, os\njson.dumps = json.loads = os.write = os.read = lambda *a, **k: 1 / 0", ""),
    Snippet("a trace of everything", "import sys\nsys.settrace(lambda *a: 1 / 0)\nsys.setprofile(lambda *a: 1 / 0)", ""),
    Snippet("another stdout", "import sys\nclass Out:\n    def write(self, *a): raise SystemExit\n    flush = write\nsys.stdout = sys.stderr = Out()\nprint('x')", ""),
    Snippet("an error whose text fails", "class E(Exception):\n    def __str__(self): 1 / 0\nraise E()", "E"),
    Snippet("an error whose text has no end", "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E()", "TimeoutError"),
    Snippet("a value whose text has no end", "class V:\n    def __repr__(self): return 'x' * (1 << 27)\nV()", "left out|MemoryError"),
    Snippet("unpickling", TRY + "import pickle\nclass P:\n    def __reduce__(self): return (open, ('{project}/CONTRIBUTING.md',))\nattempt(lambda: pickle.loads(pickle.dumps(P())).read())", "FileNotFoundError"),
    Snippet("files that start python", "import os, subprocess, sys\nopen('/tmp/sitecustomize.py', 'w').write('print(\"ESCAPED\")')\nopen('/tmp/x.py', 'w').write('1')\nos.environ['PYTHONSTARTUP'] = '/tmp/sitecustomize.py'\nprint(subprocess.run([sys.executable, '-S', '-c', '1'], capture_output=True, text=True).stdout or 'nothing')", "nothing"),
    Snippet("site-packages of the harness", TRY + "attempt(lambda: __import__('torch'))\nattempt(lambda: __import__('harness'))\nattempt(lambda: __import__('pip'))", "ModuleNotFoundError"),
    # Output.
    Snippet("output without end", "while True: print('x' * 1000)", "TimeoutError"),
    Snippet("much output", "print('x' * 10 ** 7)", "left out"),
    Snippet("output of children", "import os\nos.write(2, b'x' * 10 ** 6)", "left out|x"),
    Snippet("bytes that are no text", "import os\nos.write(1, bytes(range(256)))", "abc"),
    Snippet("control of a terminal", "print('\\x1b[2J\\x1b]0;title\\x07\\u202e')", "2J"),
    Snippet("half characters", "print('\\ud800')", ""),
]  # fmt: skip
