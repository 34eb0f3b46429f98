//! What packet sockets do: a bot's own packets, which no hook of a cgroup sees, and a destination outside its namespace.

use std::{net::Ipv4Addr, time::Duration};

use crate::{Ends, Lab, Net, Running};

/// Has a guarded bot inside `net` send a SYN that it has built itself to `port` of the other end; says `answered` or
/// `silence`.
///
/// # Panics
/// When the bot cannot be started.
pub fn by_hand(lab: &Lab, net: &Net, ends: &Ends, port: u16) -> String {
    tagged(lab, net, ends, port, "")
}

/// The same behind `tags`, in hexadecimal: what stands between the addresses of the frame and the packet's kind.
///
/// # Panics
/// As [`by_hand`].
pub fn tagged(lab: &Lab, net: &Net, ends: &Ends, port: u16, tags: &str) -> String {
    let config = lab.config().display().to_string();
    let [inside, outside] = [ends.inside, ends.outside].map(|end| end.to_string());
    let (holdpoint, port) = (lab.tool("holdpoint"), port.to_string());
    let guarded = [&holdpoint, "exec", "--config", &config, "--as", "forger", "--"];
    let argv = [&guarded[..], &["python3", "-c", BY_HAND, &inside, &outside, &port, tags]].concat();
    let mut command = lab.command(&argv);
    net.enter(&mut command);
    Running::start(&mut command).finish(Duration::from_secs(20)).ok().stdout.trim().to_owned()
}

/// Passes connections to `at` on to a port of the loopback, and datagrams to nobody.
///
/// # Panics
/// When `at` is no address of this machine.
pub fn forwarder(at: Ipv4Addr, port: u16) -> u16 {
    let listener = std::net::TcpListener::bind((at, 0)).expect("the address is this machine's");
    let here = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for from in listener.incoming().flatten() {
            let Ok(to) = std::net::TcpStream::connect(("127.0.0.1", port)) else { continue };
            for (mut from, mut to) in [(from.try_clone(), to.try_clone()), (Ok(to), Ok(from))]
                .map(|(a, b)| (a.expect("a socket can be cloned"), b.expect("a socket can be cloned")))
            {
                std::thread::spawn(move || {
                    let _ended = std::io::copy(&mut from, &mut to);
                    let _ended = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    here
}

/// Sends a SYN that it has built itself out of `eth0`, by a packet socket, and says whether it was answered.
const BY_HAND: &str = "import os,socket,struct,sys,time\n\
    src,dst,port=sys.argv[1],sys.argv[2],int(sys.argv[3])\n\
    p=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3)); p.bind(('eth0',0)); p.settimeout(0.2)\n\
    u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
    try: u.sendto(b'x',(dst,9))\n\
    except OSError: pass\n\
    time.sleep(0.2)\n\
    mac=lambda s: bytes.fromhex(s.replace(':',''))\n\
    own=p.getsockname()[4]\n\
    peer=[l.split() for l in open('/proc/net/arp')][1:]; peer=[l[3] for l in peer if l[0]==dst]\n\
    to=mac(peer[0]) if peer else b'\\xff'*6\n\
    def total(b):\n  b+=b'\\0'*(len(b)%2); t=sum(struct.unpack('!%dH'%(len(b)//2),b))\n  \
    while t>>16: t=(t&0xffff)+(t>>16)\n  return ~t&0xffff\n\
    a,b=socket.inet_aton(src),socket.inet_aton(dst); sport=40000+os.getpid()%20000\n\
    tcp=struct.pack('!HHIIBBHHH',sport,port,7,0,0x50,2,8192,0,0)\n\
    tcp=tcp[:16]+struct.pack('!H',total(a+b+struct.pack('!BBH',0,6,20)+tcp))+tcp[18:]\n\
    ip=struct.pack('!BBHHHBBH',0x45,0,40,1,0,64,6,0)+a+b; ip=ip[:10]+struct.pack('!H',total(ip))+ip[12:]\n\
    end=time.time()+1.5; p.send(to+own+bytes.fromhex(sys.argv[4])+b'\\x08\\0'+ip+tcp)\n\
    while time.time()<end:\n  \
    try: f=p.recv(2000)\n  \
    except TimeoutError: continue\n  \
    if f[12:14]==b'\\x08\\0' and f[26:30]==b and f[23]==6 and f[34:38]==struct.pack('!HH',port,sport) and f[47]&0x12==0x12: print('answered'); break\n\
    else: print('silence')\n";
